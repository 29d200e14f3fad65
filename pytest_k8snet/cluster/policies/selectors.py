"""Calico's language of selectors: ``has(a) && b in {"c", "d"} || !all()`` (libcalico-go/lib/selector). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"""\s*(?:(?P<op>&&|\|\||!=|==|!(?!=)|\(|\)|\{|\}|,)|"(?P<double>[^"]*)"|'(?P<single>[^']*)'"""
    r"""|(?P<word>(?:not\s+in|starts\s+with|ends\s+with)\b|[a-zA-Z0-9_./-]+))"""
)
_WORDS = {"==", "!=", "in", "not in", "contains", "starts with", "ends with"}


class SelectorError(ValueError):
    """A selector that this does not understand."""


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a selector selects what has these labels; an empty one selects everything.

    Raises `SelectorError` for what it does not understand.
    """
    if not selector.strip():
        return True
    reader = _Reader(_tokens(selector), labels)
    found = reader.either()
    if not reader.ended:
        raise SelectorError(selector)
    return found


def _tokens(selector: str) -> list[tuple[str, str]]:
    found, position = [], 0
    while position < len(selector.rstrip()):
        token = _TOKEN.match(selector, position)
        if token is None:
            raise SelectorError(selector)
        position = token.end()
        kind = str(token.lastgroup)
        text = " ".join(token[kind].split()) if kind == "word" else token[kind]
        found.append(("string" if kind in ("double", "single") else kind, text))
    return found


class _Reader:
    """Goes through the tokens once, and decides as it goes."""

    def __init__(self, tokens: list[tuple[str, str]], labels: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._labels = labels
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at == len(self._tokens)

    def either(self) -> bool:
        found = self._both()
        while self._take("||"):
            right = self._both()
            found = found or right
        return found

    def _both(self) -> bool:
        found = self._one()
        while self._take("&&"):
            right = self._one()
            found = found and right
        return found

    def _one(self) -> bool:
        if self._take("!"):
            return not self._one()
        if self._take("("):
            found = self.either()
            self._need(")")
            return found
        label = self._next("word")
        if label in ("all", "global", "has") and self._take("("):
            if label == "has":
                wanted = self._next("word")
                self._need(")")
                return wanted in self._labels
            self._need(")")
            return label == "all"
        return self._compare(label)

    def _compare(self, label: str) -> bool:
        kind, how = self._tokens[self._at] if not self.ended else ("", "")
        if how not in _WORDS or kind == "string":
            raise SelectorError(how)
        self._at += 1
        have = self._labels.get(label)
        if how in ("in", "not in"):
            return (have in self._set()) is (how == "in")
        value = self._next("string")
        if how in ("==", "!="):
            return (have == value) is (how == "==")
        if have is None:
            return False
        return {"contains": value in have, "starts with": have.startswith(value), "ends with": have.endswith(value)}[how]

    def _set(self) -> set[str]:
        self._need("{")
        found: set[str] = set()
        while not self._take("}"):
            found.add(self._next("string"))
            if not self._take(","):
                self._need("}")
                break
        return found

    def _take(self, op: str) -> bool:
        if not self.ended and self._tokens[self._at] == ("op", op):
            self._at += 1
            return True
        return False

    def _need(self, op: str) -> None:
        if not self._take(op):
            raise SelectorError(op)

    def _next(self, kind: str) -> str:
        if self.ended or self._tokens[self._at][0] != kind:
            raise SelectorError(kind)
        self._at += 1
        return self._tokens[self._at - 1][1]
