"""Keep secrets out of what is recorded and reported.

Two ways at once: by value (the credentials in use, and what the environment calls a password or a token), and by shape (private keys, JWTs,
authorization headers, passwords in URLs, and what stands behind a key or flag whose name ends in password, token, secret and the like).
No measurement may therefore give one of its values such a name.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

HIDDEN = "[redacted]"

_SHORTEST = 6  # characters; hiding anything shorter by value would eat names
_ALONE = 12  # shorter values are hidden where they stand alone, not inside a longer word
_CUT = 6  # characters of a value that pytest has shortened in the middle

_NAME = (
    r"(?:pass(?:word|wd|phrase|code)|secret|token|(?:api|access|secret|private|signing|encryption|account|fastopen)[-_. ]?key"
    r"|key[-_]data|credentials?|cookie|authorization)"
)
_KEY = re.compile(rf"(?i)[\w./-]*{_NAME}")
#: The name of a Secret, not what is in it.
_NO_SECRET = re.compile(r"(?i)(?:[\w./-]*[-_.])?(?:image[-_]?)?pull[-_]?secrets?")
_FLAG = re.compile(r"--?([\w.-]+)")

# Words behind a colon that go on with the sentence: "failed to fetch token: unexpected status".
_PROSE = frozenset(
    {
        "a",
        "an",
        "authentication",
        "authorization",
        "bad",
        "cannot",
        "could",
        "denied",
        "does",
        "empty",
        "error",
        "expired",
        "failed",
        "fetching",
        "for",
        "forbidden",
        "get",
        "has",
        "in",
        "invalid",
        "is",
        "malformed",
        "missing",
        "must",
        "no",
        "not",
        "permission",
        "post",
        "put",
        "rejected",
        "required",
        "the",
        "timeout",
        "to",
        "unable",
        "unauthorized",
        "unexpected",
        "unknown",
        "unsupported",
        "was",
    }
)
_NOTHING = frozenset({"", "true", "false", "null", "none", "nil", "yes", "no", "<nil>", HIDDEN})
_TEMPLATE = re.compile(r"\$[{(\w].*|<[^<>]*>|\*+|\{\{.*")

_HIDDEN = re.compile(r"(?:\w+ )?\[redacted")

# Whole, or as much of it as there is; over the lines of a traceback, too.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:(?:(?!-----BEGIN).){0,20000}?-----END [A-Z0-9 ]*PRIVATE KEY-----"
    r"|(?:(?:\\[nr]|[\s\"'E|>:,.-])*[A-Za-z0-9+/=]{8,})*)"
    r"|\bLS0tLS1CRUdJTi[A-Za-z0-9+/=_-]+",
    re.DOTALL,
)
_JWT = re.compile(r"\beyJ[\w-]{6,}\.[\w-]{4,}(?:\.[\w-]*)?")
_WEBSOCKET = re.compile(r"(base64url\.bearer\.authorization\.k8s\.io\.)[\w-]+")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:(?:\\?/){2})([^\s/\"'<>@]*:[^\s/\"'<>]*|[^\s/\"'<>@:]{20,})@")
_SCHEME = re.compile(r"\b(bearer|basic|negotiate)(\s+|%20|\+)([\w.~+/-]{6,}=*)", re.IGNORECASE)
_SCHEMES = "bearer|basic|token|negotiate|digest"
_AUTHORIZATION = re.compile(
    rf"(?i)\b((?:proxy-)?authorization(?:b(?=[\"']))?[\\\"']*\s*[:=,]\s*(?:b(?=[\"']))?[\\\"']*(?:{_SCHEMES})\s+)([^\s\\\"',;]+)"
)
_HEADER = re.compile(
    rf"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)([\\\"']*\s*[:=]\s*(?:b(?=[\"']))?[\\\"']*)(?!(?:{_SCHEMES})\s)"
    r"([^\s\\\"'][^\"'\r\n\\]*)"
)
_BLOCK = re.compile(rf"(?im)^([ \t]*)((?:- )?[\w./-]*{_NAME}[\"']?:[ \t]*[|>][-+0-9]*[ \t]*\r?\n)((?:\1[ \t]+[^\n]*(?:\n|\Z)|[ \t]*\n)+)")
_LINE = re.compile(rf"(?im)^([ \t]*(?:- )?)([\w./-]*{_NAME})(:[ \t]+)([^\s\"'|>{{\[\\][^\n]*)$")
_PAIR = re.compile(
    rf"(?i)((?:name|key)[\\\"']*\s*[:=]\s*[\\\"']*)([\w./-]*{_NAME})([\\\"']*\s*[,\n]\s*[\\\"']*value[\\\"']*\s*[:=]\s*)"
    r"(\\*\"(?:[^\"\\]|\\.)*\\*\"|'[^'\n]*'|[^\s,\"'}\]]+)"
)
_ASSIGNED = re.compile(
    rf"(?i)([\w./-]*{_NAME})([\\\"']*\s*(?:=|:|=>)\s*(?:b(?=[\"']))?)"
    r"(\\+\".*?\\+\"|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|(?:\[redacted\]|[^\s,;&\"'\\}\])\x1b])+)"
)
_SPACED = re.compile(rf"(?i)(?<!\S)(--?[\w.-]*{_NAME})(\s+)([^\s\"'-][^\s\"']*|\"[^\"]*\"|'[^']*')")

# One of these is in whatever a pattern above finds. Looking for plain words is ten times quicker than for all of them by one expression,
# and without the characters that make up most of a table of numbers the text is half as long.
_LEFT_OUT = b" .:,0123456789"
_LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
_HINTS = (b"secret", b"token", b"credential", b"cookie", b"authorization", b"bearer", b"basic", b"negotiate", b"lstlscrudjti", b"eyj")
_PASS_HINT = re.compile(rb"pass[wpc]")
_KEY_HINT = re.compile(rb"key")
_KEY_BEFORE = re.compile(rb"(?:api|access|private|signing|encryption|account|fastopen)[-_]?key\Z")
_KEY_AFTER = (b"-data", b"_data", b"-----")
_URL_HINT = re.compile(r":[\\/]+[^\s/\"'<>]*@")


class Redactor:
    """Hides secrets in text and in JSON values. It may be asked, and taught, from several threads."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms: tuple[tuple[str, re.Pattern[str]], ...] = ()
        self._values: frozenset[str] = frozenset()
        self._spared: frozenset[str] = frozenset()
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Hide these values from now on, whatever stands around them; of several lines each that is long enough to be one."""
        new = frozenset(part for value in values for part in _parts(value)) - self._values
        if new:
            self._values |= new
            forms = {form for value in self._values for form in _forms(value)}
            self._forms = tuple((form, _pattern(form)) for form in sorted(forms, key=len, reverse=True))

    def spare(self, names: Iterable[str]) -> None:
        """Take these for names of nodes: what a message says of ``db-token: ...`` is no secret."""
        self._spared |= frozenset(names)

    def clean(self, text: str) -> bool:
        """Whether there is certainly nothing to hide: a quick look, at a megabyte of JSON as well as at a word."""
        return not _may_hold(text) and not any(form in text for form, _ in self._forms)

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        if "..." in text:
            text = self._without_cut(text)
        if self.clean(text):
            return text
        for form, pattern in self._forms:
            if form in text:
                text = pattern.sub(HIDDEN, text)
        return _by_shape(text, self._spared)

    def json(self, value: Any) -> Any:
        """Return a JSON value without secrets: in its texts, behind its keys, and in lists of arguments. Keys stay as they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, Sequence):
            return [
                HIDDEN if isinstance(item, str) and _is_flag(before) and not item.startswith("-") else self.json(item)
                for before, item in zip([None, *value], value, strict=False)
            ]
        return value

    def _mapping(self, value: Mapping[Any, Any]) -> Mapping[Any, Any]:
        # One look at all of it: where one of ten thousand results has something to hide, the others need not be taken apart.
        text = json.dumps(value, default=lambda _: None)
        if "..." not in text and self.clean(text):
            return value
        if value.get("kind") == "Secret":
            return {
                key: dict.fromkeys(item, HIDDEN) if key in ("data", "stringData") and isinstance(item, Mapping) else self.json(item)
                for key, item in value.items()
            }
        named = any(isinstance(value.get(word), str) and is_secret(value[word]) for word in ("name", "key"))
        return {
            key: self._hidden(item) if (isinstance(key, str) and is_secret(key)) or (named and key == "value") else self.json(item)
            for key, item in value.items()
        }

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return value if _harmless(value) else HIDDEN
        if isinstance(value, Mapping):
            return self.json(value)
        if isinstance(value, Sequence):
            return [self._hidden(item) for item in value]
        return value if value is None or isinstance(value, bool) else HIDDEN

    def _without_cut(self, text: str) -> str:
        """Hide what pytest has left of a known value that it shortened in the middle, as it does with local variables."""

        def head(found: re.Match[str]) -> str:
            before = found[1]
            for form, _ in self._forms:
                longest = next((n for n in range(min(len(form), len(before)), _CUT - 1, -1) if before.endswith(form[:n])), 0)
                if longest:
                    return before[:-longest] + HIDDEN
            return before

        def tail(found: re.Match[str]) -> str:
            after = found[1]
            for form, _ in self._forms:
                longest = next((n for n in range(min(len(form), len(after)), _CUT - 1, -1) if after.startswith(form[-n:])), 0)
                if longest:
                    return HIDDEN + after[longest:]
            return after

        text = re.sub(r"([^\s\"']{6,})(?=\.\.\.)", head, text)
        return re.sub(r"(?<=\.\.\.)([^\s\"']{6,})", tail, text)


def is_secret(key: str) -> bool:
    """Whether a key, flag or variable is named like one that holds a secret."""
    return _KEY.fullmatch(key.lstrip("-")) is not None and _NO_SECRET.fullmatch(key.lstrip("-")) is None


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return the values of environment variables that are named like secrets; paths are none."""
    return [value for name, value in environment.items() if is_secret(name) and (name.startswith("K8SNET_") or value[:1] not in ("/", "~"))]


def _may_hold(text: str) -> bool:
    lowered = (text if text.isascii() else text.lower()).encode("utf-8", "surrogatepass").translate(_LOWER, _LEFT_OUT)
    for hint in _HINTS:  # a loop of its own: of most of what is written this is all that is done, tens of thousands of times
        if hint in lowered:
            return True
    return (
        (b"pass" in lowered and _PASS_HINT.search(lowered) is not None)
        or any(
            lowered.startswith(_KEY_AFTER, found.end()) or _KEY_BEFORE.search(lowered, max(0, found.start() - 12), found.end())
            for found in _KEY_HINT.finditer(lowered)
        )
        or ("@" in text and _URL_HINT.search(text) is not None)
    )


def _by_shape(text: str, spared: Container[str]) -> str:
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _JWT.sub(HIDDEN, text)
    text = _WEBSOCKET.sub(rf"\1{HIDDEN}", text)
    text = _URL.sub(rf"\1{HIDDEN}@", text)
    text = _AUTHORIZATION.sub(lambda found: found[0] if _harmless(found[2]) else found[1] + HIDDEN, text)
    text = _HEADER.sub(_header, text)
    text = _SCHEME.sub(_scheme, text)
    text = _BLOCK.sub(rf"\1\2\1  {HIDDEN}\n", text)
    text = _PAIR.sub(_pair, text)
    text = _LINE.sub(partial(_line, spared), text)
    text = _ASSIGNED.sub(partial(_assigned, spared), text)
    return _SPACED.sub(_spaced, text)


def _header(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    return found[0] if _harmless(value) or _first(value) in _PROSE else f"{name}{between}{HIDDEN}"


def _scheme(found: re.Match[str]) -> str:
    """Tell a credential from prose such as "bearer authentication"."""
    value = found[3]
    if found[1].lower() == "basic":
        try:
            secret = b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except (binascii.Error, ValueError):
            secret = False
    else:
        secret = len(value) >= 16 or any(char.isdigit() for char in value)
    return f"{found[1]}{found[2]}{HIDDEN}" if secret else found[0]


def _pair(found: re.Match[str]) -> str:
    name, key, between, value = found.groups()
    return found[0] if not is_secret(key) or _harmless(_bare(value)) else f"{name}{key}{between}{_quoted(value)}"


def _line(spared: Container[str], found: re.Match[str]) -> str:
    indent, key, colon, value = found.groups()
    if key in spared or not is_secret(key) or _harmless(value.strip()) or _first(value) in _PROSE:
        return found[0]
    return f"{indent}{key}{colon}{HIDDEN}"


def _assigned(spared: Container[str], found: re.Match[str]) -> str:
    key, sign, value = found.groups()
    bare = _bare(value)
    if not is_secret(key) or _harmless(bare):
        return found[0]
    if value[0] not in "\"'\\" and (sign == ":" or (sign.strip() == ":" and key in spared)):
        return found[0]  # a pair of nodes, or a message about a node, that is called so
    if sign.strip(" \\\"'") == ":" and value[0] not in "\"'\\" and not _looks_random(bare):
        # In the middle of a sentence: what goes on with it is no value.
        rest = found.string[found.end() :]
        if _first(bare) in _PROSE or bare.endswith(":") or re.match(r" +\S", rest):
            return found[0]
    return f"{key}{sign}{_quoted(value)}"


def _spaced(found: re.Match[str]) -> str:
    flag, space, value = found.groups()
    bare = _bare(value)
    if not is_secret(flag) or _harmless(bare) or _first(bare) in _PROSE:
        return found[0]
    return f"{flag}{space}{_quoted(value)}"


def _is_flag(word: object) -> bool:
    found = _FLAG.fullmatch(word) if isinstance(word, str) else None
    return found is not None and is_secret(found[1])


def _first(value: str) -> str:
    return value.split(maxsplit=1)[0].lower().rstrip(",.;") if value.strip() else ""


def _harmless(value: str) -> bool:
    return value.lower() in _NOTHING or _TEMPLATE.fullmatch(value) is not None or _HIDDEN.match(value) is not None


def _looks_random(value: str) -> bool:
    return len(value) >= _SHORTEST and any(char.isdigit() for char in value)


def _bare(value: str) -> str:
    return value.strip("\\").strip("\"'").strip("\\")


def _quoted(value: str) -> str:
    """Return what stands for a value, in the quotes it had."""
    found = re.match(r"\\*[\"']", value)
    return f"{found[0]}{HIDDEN}{found[0]}" if found else HIDDEN


def _parts(value: str) -> Iterator[str]:
    value = value.strip()
    if "\n" not in value:
        if len(value) >= _SHORTEST:
            yield value
        return
    for line in value.splitlines():
        if len(line.strip()) >= 32 and not line.startswith("-----"):  # 32: a line of a PEM file, not one of prose
            yield line.strip()


def _forms(value: str) -> Iterator[str]:
    """Yield a value as it may be written: plain, in JSON, in a URL, in base64."""
    yield value
    yield json.dumps(value)[1:-1]
    yield repr(value)[1:-1]
    yield quote(value, safe="")
    data = value.encode("utf-8", "surrogateescape")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(data).decode().rstrip("=")


def _pattern(form: str) -> re.Pattern[str]:
    escaped = re.escape(form)
    return re.compile(escaped if len(form) >= _ALONE else rf"(?<![A-Za-z0-9]){escaped}(?![A-Za-z0-9])")
