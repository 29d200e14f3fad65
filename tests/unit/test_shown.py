from __future__ import annotations

import pytest

from pytest_k8snet.cluster.pairs import pair_name, pair_nodes
from pytest_k8snet.record.redact import Redactor
from pytest_k8snet.shown import printable, shown, shown_in_colours


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("node-1: eth0 MTU 1450, want 1500", "node-1: eth0 MTU 1450, want 1500"),
        ("grüße 節点 ✓", "grüße 節点 ✓"),
        ("\x1b[31mred\x1b[0m\x07", "\\x1b[31mred\\x1b[0m\\x07"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("safe\u202egnp.exe", "safe\\u202egnp.exe"),
        ("a\u200bb\ufeffc", "a\\u200bb\\ufeffc"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("half \udc80", "half \\udc80"),
        ("%s {} [x] $(reboot) `id`", "%s {} [x] $(reboot) `id`"),
        ("", ""),
    ],
)
def test_printable(text: str, wanted: str) -> None:
    assert printable(text) == wanted
    wanted.encode()


def test_lines_of_a_message_stay() -> None:
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
    assert shown("a\npassword=hunter2 \x1b[1m", Redactor()) == "a\npassword=[redacted] \\x1b[1m"


def test_colours_of_a_traceback_stay() -> None:
    text = "\x1b[31m- token=abc1\x1b[0m \x1b]0;title\x07"
    assert shown_in_colours(text, Redactor()) == "\x1b[31m- token=[redacted]\x1b[0m \\x1b]0;title\\x07"


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("node-1", "node-2", "node-1:node-2"),
        ("fe80::1", "node-2", "fe80%3A%3A1:node-2"),
        ("a:b", "c", "a%3Ab:c"),
        ("a", "b:c", "a:b%3Ac"),
        ("a%3Ab", "c", "a%253Ab:c"),
        ("", "%", ":%25"),
    ],
)
def test_pairs(source: str, target: str, name: str) -> None:
    assert pair_name(source, target) == name
    assert pair_nodes(name) == (source, target)


@pytest.mark.parametrize("node", ["node-1", "cluster", "fe80::1", ""])
def test_a_node_is_no_pair(node: str) -> None:
    assert pair_nodes(node) == (node,)
