"""What people get to see: text without secrets, and without characters that a terminal would obey."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_k8snet.record.redact import Redactor

#: Categories of characters that do something instead of being seen: control, format (which turns the direction of text), surrogate,
#: private use, and the two line separators.
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def printable(text: str, *, keep: str = "") -> str:
    r"""Return `text` with whatever is not seen written as an escape (``\x1b``); `keep` are characters that stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in keep or unicodedata.category(char) not in _UNSEEN else _escaped(char) for char in text)


def shown(text: str, redactor: Redactor, *, keep: str = "\n\t") -> str:
    """Return a message of one or more lines as it may be shown."""
    return printable(redactor.text(text), keep=keep)


def shown_in_colours(text: str, redactor: Redactor) -> str:
    """Return a part of a traceback as it may be shown: colours stay, which pytest has put into comparisons."""
    parts = _COLOUR.split(redactor.text(text))
    return "".join(part if _COLOUR.fullmatch(part) else printable(part, keep="\n\t") for part in parts)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode() if not 0xD800 <= ord(char) <= 0xDFFF else f"\\u{ord(char):04x}"
