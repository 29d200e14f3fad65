"""What people get to see: text without secrets, and without characters that a terminal would obey."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_k8snet.record.redact import Redactor

#: Categories of characters that do something instead of being seen: control, format (which turns the direction of text), surrogate,
#: private use, and the two line separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def printable(text: str, *, keep: str = "") -> str:
    r"""Return `text` with whatever is not seen written as an escape (``\x1b``); `keep` are characters that stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in keep or unicodedata.category(char) not in _UNSEEN else _escaped(char) for char in text)


def shown(text: str, redactor: Redactor) -> str:
    """Return a message of one or more lines as it may be shown."""
    return printable(redactor.text(text), keep="\n\t")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode() if not 0xD800 <= ord(char) <= 0xDFFF else f"\\u{ord(char):04x}"
