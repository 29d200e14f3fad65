"""The hooks that keep secrets out of what pytest itself tells: tracebacks with their variables, captured output, logs, internal errors."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import TerminalRepr  # what tracebacks are made of; there is no public name for it

from pytest_k8snet.shown import shown_in_colours

if TYPE_CHECKING:
    from pytest_k8snet.record.redact import Redactor


class Redacting:
    """Registered in every process of a run."""

    def __init__(self, config: pytest.Config, redactor: Redactor) -> None:
        self._config = config
        self._redactor = redactor

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Look through what is logged, before anything is: the terminal, ``--log-file``, ``caplog`` and reports all have it from these."""
        plugin = self._config.pluginmanager.get_plugin("logging-plugin")
        for name in ("caplog_handler", "report_handler", "log_file_handler", "log_cli_handler"):
            handler = getattr(plugin, name, None)
            if isinstance(handler, logging.Handler):
                handler.addFilter(self._look_through)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Look through a report last of all."""
        report = yield
        if report.longrepr is not None or report.sections:
            self._hide_report(report)
        told = getattr(report, "k8snet", None)
        # One look at all of it: of most reports there is nothing to hide, and of a test that is being set up there is nothing at all.
        if (report.user_properties or told is not None) and not self._redactor.clean(repr((report.user_properties, told))):
            properties = [(name, self._redactor.json({name: value})[name]) for name, value in report.user_properties]
            report.user_properties = properties
            if told is not None:
                report.k8snet = self._redactor.json(told)  # type: ignore[attr-defined]
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Look through the report of a file that could not be collected."""
        report = yield
        self._hide_report(report)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: object) -> None:
        """Look through a traceback that is nobody's test."""
        self._hidden(excrepr)

    @pytest.hookimpl(trylast=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Look through what ``--full-trace`` shows of an interrupted run."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        self._hidden(getattr(terminal, "_keyboardinterrupt_memo", None))

    def _hide_report(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        report.longrepr = self._hidden(report.longrepr)
        report.sections = [(name, self._redactor.text(content)) for name, content in report.sections]

    def _hidden(self, value: Any) -> Any:
        """Return a representation without secrets; the parts of a traceback are changed where they are."""
        if isinstance(value, str):
            return shown_in_colours(value, self._redactor)
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            return self._hidden_lines(value)
        if isinstance(value, list | tuple):
            return type(value)(self._hidden(item) for item in value)
        if isinstance(value, TerminalRepr):
            for name, part in vars(value).items():
                setattr(value, name, self._hidden(part))
        return value

    def _hidden_lines(self, lines: list[str]) -> list[str]:
        """Look at lines together: a key is more than one. Some parts of tracebacks keep the ends of their lines, others do not."""
        if any(line.endswith("\n") for line in lines):
            return shown_in_colours("".join(lines), self._redactor).splitlines(keepends=True)
        return shown_in_colours("\n".join(lines), self._redactor).split("\n") if lines else lines

    def _look_through(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
            text = record.exc_text or (logging.Formatter().formatException(record.exc_info) if record.exc_info else None)
        except Exception:  # noqa: BLE001 - of arguments that do not fit; logging itself says so
            return True
        # Only what has something to hide is changed: tests look at the arguments of records.
        if (hidden := self._redactor.text(message)) != message:
            record.msg, record.args = hidden, None
        if text is not None:
            record.exc_text = self._redactor.text(text)
        if record.stack_info:
            record.stack_info = self._redactor.text(record.stack_info)
        return True
