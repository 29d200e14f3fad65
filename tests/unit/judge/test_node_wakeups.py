"""Judging how late nodes wake up: `pytest_k8snet.judge.node`."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import NodeExpectation, Wanted
from pytest_k8snet.judge import node
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.wakeups import WakeupsRecord
from tests.unit.judge.builder import document, outcome, told


def wakeups(name: str, *shares: float, steal: int = 0) -> Document:
    processor = {"user": 10, "idle": 90 - steal, "steal": steal}
    takes = [
        {"samples": 800, "p50_ms": 0.1, "p99_ms": 2.0, "max_ms": 71.2, "gaps": 3, "late_share": share, "processor": processor}
        for share in shares
    ]
    return document("wakeups", name, {"seconds": 1.0, "takes": takes})


def judged(*documents: Document, expect: NodeExpectation | None = None) -> Judgement:
    record = WakeupsRecord.from_document(documents[0])
    return node.wakeups(record, {item.subject: item for item in documents}, expect or NodeExpectation())


OTHERS = wakeups("node-2", 0.0), wakeups("node-3", 0.012)
LATE = "node-1: woke up too late for 24 % of 1 s, by 71 ms at most"


@pytest.mark.parametrize(
    ("documents", "verdict", "message"),
    [
        pytest.param([wakeups("node-1", 0.0), *OTHERS], "pass", "", id="in-time"),
        pytest.param([wakeups("node-1", 0.4, 0.3, 0.01), *OTHERS], "pass", "", id="what-passed"),
        pytest.param(
            [wakeups("node-1", 0.4, 0.24, 0.3), *OTHERS],
            "fail",
            f"{LATE}; other nodes 0 % to 1.2 %, want 10 % at most (built-in) (sleeps of 1 ms)",
            id="late",
        ),
        pytest.param(
            [wakeups("node-1", 0.24, steal=20), document("wakeups", "node-2", None, "gone")],
            "fail",
            f"{LATE}; 20 % of the processors' time was stolen, want 10 % at most (built-in) (sleeps of 1 ms)",
            id="late-and-stolen",
        ),
    ],
)
def test_wakeups(documents: list[Document], verdict: str, message: str) -> None:
    assert outcome(judged(*documents)) == (verdict, message)


def test_somewhat_late_is_advice() -> None:
    judgement = judged(wakeups("node-1", 0.04), *OTHERS)
    assert str(judgement.verdict) == "pass"
    (advice,) = told(judgement, "advice")
    assert advice.endswith("other nodes 0 % to 1.2 %: something keeps its processors")


def test_nodes_that_are_all_late_are_advice_unless_a_profile_says_so() -> None:
    """What they all run on is busy then: no node is the odd one."""
    late = wakeups("node-1", 0.5), wakeups("node-2", 0.2), wakeups("node-3", 0.3)
    judgement = judged(*late)
    assert str(judgement.verdict) == "pass"
    (advice,) = told(judgement, "advice")
    assert advice.endswith("other nodes 20 % to 30 %: nodes are alike in that, what they all run on is short of processors")
    assert str(judged(*late, expect=NodeExpectation(late=Wanted(0.1, "profile ours.yaml:2"))).verdict) == "fail"
    assert str(judged(wakeups("node-1", 0.9), wakeups("node-2", 0.2)).verdict) == "fail"


def test_profiles_decide() -> None:
    assert str(judged(wakeups("node-1", 0.24), expect=NodeExpectation(late=Wanted(0.3, "profile ours.yaml:2"))).verdict) == "pass"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "node-1: no wake-ups: no route"),
        ({"seconds": 1, "takes": []}, "node-1: the wakeups document is damaged: ValueError('no take')"),
        ({"seconds": 1, "takes": [{}]}, "node-1: the wakeups document is damaged: KeyError('samples')"),
    ],
)
def test_damaged(values: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        WakeupsRecord.from_document(document("wakeups", "node-1", values, None if values else "no route"))
    assert str(caught.value) == message
