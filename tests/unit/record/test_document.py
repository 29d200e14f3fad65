from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError, UnsupportedError
from pytest_k8snet.record.document import Document

GOOD: dict[str, Any] = {
    "schema": 1,
    "kind": "facts",
    "subject": "node-1",
    "started": "2026-01-01T00:00:00.000+00:00",
    "duration_s": 0.1,
    "method": "agent",
    "values": {"a": [1]},
    "reason": None,
    "retried": None,
    "unsupported": False,
}


def test_there_and_back() -> None:
    document = Document.from_json(GOOD, where="x.json")
    assert not document.failed
    assert document.to_json() == GOOD
    old = {key: value for key, value in GOOD.items() if key not in ("retried", "unsupported")}
    assert Document.from_json(old, where="x.json") == document
    failed = Document.from_json({**GOOD, "values": None, "reason": "node-1: agent died"}, where="x.json")
    assert failed.failed
    assert failed.why == "agent died"
    assert (type(failed.no_values("facts")), str(failed.no_values("facts"))) == (RecordError, "node-1: no facts: agent died")
    beyond = Document.from_json({**GOOD, "values": None, "reason": "no python3", "unsupported": True}, where="x.json").no_values("facts")
    assert (type(beyond), str(beyond)) == (UnsupportedError, "no python3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "x.json: not a recorded document (no schema)"),
        ({}, "x.json: not a recorded document (no schema)"),
        ({**GOOD, "schema": 3}, "x.json: schema 3, this version reads 1 and 2; use the version that wrote it"),
        ({**GOOD, "extra": 1}, "x.json: Document.__init__() got an unexpected keyword argument 'extra'"),
        ({key: value for key, value in GOOD.items() if key != "kind"}, "x.json: Document.__init__() missing 1 required"),
        ({**GOOD, "reason": "both"}, "x.json: a document has either values or the reason why there are none"),
        ({**GOOD, "values": None}, "x.json: a document has either values or the reason why there are none"),
    ],
    ids=["list", "empty", "schema", "extra", "missing", "both", "neither"],
)
def test_what_is_refused(change: Any, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        Document.from_json(change, where="x.json")
    assert str(caught.value).startswith(message)
