from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ControlPlaneExpectation, Wanted
from pytest_k8snet.judge import control_plane
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.relayed import Relayed, RelayedRecord, RelayedToPod
from tests.unit.judge.builder import outcome, told

LOG = Relayed(200, "", 4.0, 1)
ANSWER = Relayed(200, "k8snet\n", 3.0, 1)
NO_KUBELET = Relayed(
    500, 'Get "https://192.168.10.11:10250/containerLogs/n/probe-node-1/probe": dial tcp 192.168.10.11:10250: i/o timeout', 30000.0, 2
)
NO_POD = Relayed(503, "error trying to reach service: dial tcp 10.244.1.5:9443: i/o timeout", 30000.0, 2)
TOLD = f"node-1: the API server does not reach the pod at 10.244.1.5 port 9443: {NO_POD.said} (2 tries)"
TUNNEL = Relayed(500, "error dialing backend: No agent available", 2.0, 3)
TROUBLE = Relayed(500, "etcdserver: leader changed", 2.0, 3)
FORBIDDEN = Relayed(403, 'pods "probe-node-1" is forbidden: User "me" cannot get resource "pods/log" in API group ""', 1.0, 1)
ASKED = "node-1: the API server could not be asked for"
ROLE = "(`k8snet manifests rbac` prints a role that has these rights)"


def pod(answer: Relayed, *, ours: bool | None = None, seen: int = 0) -> RelayedToPod:
    ours = answer.status == 200 if ours is None else ours
    return RelayedToPod(answer, "10.244.1.5", 9443, ours, seen or int(ours), ("192.168.10.1",) if ours or seen else ())


def judged(
    kubelet: Relayed = LOG,
    of_pod: RelayedToPod | None = None,
    *,
    others: tuple[int, int] = (2, 2),
    reaches_pods: bool | None = None,
    not_serving: str | None = None,
) -> Judgement:
    """`others` are nodes whose pods were asked, and how many answered."""
    expect = ControlPlaneExpectation(None if reaches_pods is None else Wanted(reaches_pods, "profile x.yaml:3"))
    return control_plane.reached_by_api(RelayedRecord("node-1", kubelet, of_pod, not_serving, *others), expect)


def test_kubelet_and_pod_are_reached() -> None:
    healthy = judged(of_pod=pod(ANSWER))
    assert outcome(healthy) == ("pass", "")
    assert healthy.checked == 2
    assert healthy.evidence == {
        "kubelet": "4 ms",
        "pod": {"answer": 200, "ms": 3.0, "requests seen by it": 1, "from": ["192.168.10.1"]},
    }


def test_the_kubelet_is_not_reached() -> None:
    """Exec goes the same way: the pod cannot be made to answer, and the check is judged all the same."""
    lost = judged(NO_KUBELET, not_serving="node-1 (pod probe-node-1): no exec")
    assert outcome(lost) == (
        "fail",
        f"node-1: the API server does not reach the kubelet: {NO_KUBELET.said} (2 tries) (kubectl logs of a pod on the node)",
    )
    assert told(lost, Weight.REMARK) == ["node-1: whether the API server reaches pods was not asked: node-1 (pod probe-node-1): no exec"]
    assert outcome(judged(TUNNEL, pod(ANSWER))) == (
        "fail",
        f"node-1: the API server does not reach the kubelet: {TUNNEL.said} (3 tries) (kubectl logs of a pod on the node)",
    )


def test_this_nodes_pod_is_not_reached_and_those_of_others_are() -> None:
    assert outcome(judged(of_pod=pod(NO_POD))) == ("fail", f"{TOLD}; those of 2 of 2 other nodes it does")
    seen = pod(Relayed(503, NO_POD.said, 1.0, 1), seen=1)
    assert outcome(judged(of_pod=seen)) == (
        "fail",
        (
            f"node-1: the API server does not reach the pod at 10.244.1.5 port 9443: {NO_POD.said} (1 try, of which 1 got to the pod: "
            "its answers do not get back); those of 2 of 2 other nodes it does"
        ),
    )


def test_no_pod_is_reached() -> None:
    nobody = judged(of_pod=pod(NO_POD), others=(2, 0))
    assert outcome(nobody) == ("pass", "")
    assert told(nobody, Weight.ADVICE) == [
        (
            f"{TOLD}, nor that of any other node: webhooks and aggregated APIs get answers of pods in the host network alone. Say what is "
            "meant by control_plane.reaches_pods in a profile"
        )
    ]
    wanted = judged(of_pod=pod(NO_POD), others=(2, 0), reaches_pods=True)
    assert outcome(wanted) == ("fail", TOLD)
    assert wanted.findings[0].wanted == "reached (profile x.yaml:3)"
    unwanted = judged(of_pod=pod(NO_POD), reaches_pods=False)
    assert outcome(unwanted) == ("pass", "")
    assert told(unwanted, Weight.REMARK) == [f"{TOLD}, as control_plane.reaches_pods says (profile x.yaml:3)"]


def test_somebody_else_answers_at_the_pods_address() -> None:
    assert outcome(judged(of_pod=pod(Relayed(200, "<html>", 1.0, 1), ours=False))) == (
        "fail",
        "node-1: what answers the API server at 10.244.1.5 port 9443 is not the probe pod: '<html>'",
    )


@pytest.mark.parametrize(
    "answer",
    [
        TROUBLE,
        Relayed(404, "pods not found", 1.0, 1),
        Relayed(401, "Unauthorized", 1.0, 1),
        Relayed(403, "Forbidden (user=apiserver, verb=get, resource=nodes, subresource=proxy)", 1.0, 1),
    ],
    ids=["etcd", "gone", "unknown", "by-the-kubelet"],
)
def test_trouble_of_the_api_server_is_no_fault_of_the_way(answer: Relayed) -> None:
    said = f"HTTP {answer.status}: {answer.said}"
    assert outcome(judged(answer, pod(ANSWER))) == (
        "error",
        f"{ASKED} a log of its kubelet: {said} (kubectl logs of a pod on the node)",
    )
    assert outcome(judged(of_pod=pod(answer))) == ("error", f"{ASKED} an answer of a pod: {said}")


def test_no_answer_of_the_api_server() -> None:
    silent = Relayed(None, "https://x: no connection: timed out", 1.0, 3)
    assert outcome(judged(of_pod=pod(silent))) == ("error", f"{ASKED} an answer of a pod: {silent.said}")
    assert outcome(judged(not_serving="gone")) == ("error", "node-1: no pod could be made to answer the API server: gone")


def test_without_rights() -> None:
    both = judged(FORBIDDEN, pod(FORBIDDEN))
    assert outcome(both) == ("skip", f"the API server refuses get pods/log and pods/proxy: {FORBIDDEN.said} {ROLE}")
    assert both.unsupported
    alone = judged(FORBIDDEN, not_serving="gone")
    assert outcome(alone) == ("skip", f"the API server refuses get pods/log: {FORBIDDEN.said} {ROLE}")
    for one, right in ((judged(FORBIDDEN, pod(ANSWER)), "pods/log"), (judged(of_pod=pod(FORBIDDEN)), "pods/proxy")):
        assert outcome(one) == ("pass", "")
        assert told(one, Weight.REMARK) == [f"node-1: the API server refuses get {right}: {FORBIDDEN.said} {ROLE}"]


def test_documents_that_cannot_be_read() -> None:
    def document(values: dict[str, Any] | None) -> Document:
        reason = None if values else "gone"
        return Document(kind="relayed", subject="node-1", started="x", duration_s=0.0, method="x", values=values, reason=reason)

    with pytest.raises(RecordError, match="node-1: no answer of what the API server was to reach: gone"):
        RelayedRecord.from_document(document(None))
    with pytest.raises(RecordError, match="node-1: the relayed document is damaged"):
        RelayedRecord.from_document(document({"x": 1}))
