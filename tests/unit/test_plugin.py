from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import pytest

from pytest_k8snet import plugin

ITEM: Any = None


def raise_at_no_line() -> None:
    """Raise from code whose instructions are of no line, as CPython 3.11 has some."""
    code = compile("raise KeyboardInterrupt", "<somewhere>", "exec")
    exec(code.replace(co_linetable=b""))  # noqa: S102


def entries(traceback: TracebackType | None) -> list[int | None]:
    return [entry.tb_lineno for entry in plugin._entries(traceback)]


def test_an_interrupt_at_no_line_can_be_shown() -> None:
    with pytest.raises(KeyboardInterrupt) as before:
        raise_at_no_line()
    assert None in entries(before.value.__traceback__), "the premise: this is what pytest cannot show"
    protocol = plugin.pytest_runtest_protocol(ITEM)
    next(protocol)
    with pytest.raises(KeyboardInterrupt) as after:
        protocol.throw(before.value)
    assert None not in entries(after.value.__traceback__)


def test_other_interrupts_keep_where_they_struck() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as interrupt:
        struck = interrupt
    protocol = plugin.pytest_runtest_protocol(ITEM)
    next(protocol)
    with pytest.raises(KeyboardInterrupt) as after:
        protocol.throw(struck)
    assert [entry.tb_frame.f_code.co_name for entry in plugin._entries(after.value.__traceback__)][-1] == sys._getframe().f_code.co_name
