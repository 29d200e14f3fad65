from __future__ import annotations

import json

import pytest

from pytest_k8snet.json_text import parse_json


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True]}, "\ud800 half a pair", "\U0001f600", 2**80])
def test_what_the_standard_library_reads(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


def test_what_is_nested_often() -> None:
    assert parse_json(b"[" * 300 + b"]" * 300) == json.loads("[" * 300 + "]" * 300)


@pytest.mark.parametrize(
    ("text", "why"),
    [(b"", "Expecting value"), (b"{", "property name"), (b'{"a": "\xff"}', "can't decode byte 0xff"), (b"<html>", "Expecting value")],
)
def test_what_is_no_json(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(text)
