from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline, run
from pytest_k8snet.access.fake import FakeCluster
from pytest_k8snet.access.probes import Probe
from pytest_k8snet.access.replay import ReplayBackend
from pytest_k8snet.errors import AccessError, ClusterError, ConfigurationError, ProbeError, RecordError
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.recording import Recorded

RUN = Recorded("ab12", "2026-11-25T10:00:00+00:00", "0.1", {})
GOOD = Probe("a", "k8snet-ab12", "host-a", "probe-a", "10.244.1.5")
BAD = Probe("b", "k8snet-ab12", "host-b", "probe-b", None, error="b: OutOfpods")
CLUSTER = FakeCluster(["a", "b"]).read_cluster()


def backend(**files: Any) -> ReplayBackend:
    return ReplayBackend(RUN, lambda name: files.get(name.rpartition("/")[2].removesuffix(".json")), "/x/run.tar.zst")


def document(**changes: Any) -> dict[str, Any]:
    values = {"values": CLUSTER.to_json(), **changes}
    return Document(kind="cluster", subject="cluster", started="", duration_s=0.0, method="API", **values).to_json()


def test_inventory() -> None:
    assert backend(cluster=document()).read_cluster().to_json() == CLUSTER.to_json()
    assert backend().origin == "/x/run.tar.zst"
    assert backend().missing_rights("x") is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "the recording of run ab12 has no inventory"),
        ({"cluster": document(values=None, reason="HTTP 500")}, "the recording of run ab12 has no inventory: HTTP 500"),
        ({"cluster": document(values={"version": "v1"})}, "cluster/cluster.json: damaged: KeyError('nodes')"),
        ({"cluster": document(values={"version": "v1", "nodes": 5})}, "cluster/cluster.json: damaged: TypeError("),
        ({"cluster": []}, "cluster/cluster.json: not a recorded document (no schema)"),
    ],
    ids=["missing", "failed", "no-nodes", "nodes-no-list", "no-document"],
)
def test_no_inventory(files: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError) as caught:
        backend(**files).read_cluster()
    assert str(caught.value).startswith(message)


def test_probes() -> None:
    recorded = {"error": None, "probes": {"a": GOOD.to_json(), "b": BAD.to_json()}}
    probing = backend(probes=recorded).start_probes(CLUSTER, ["a", "b"], "new")
    assert probing.wait(Deadline.after(0)) == {"a": GOOD, "b": BAD}
    probing.delete()


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, ProbeError, "the recording of run ab12 does not say whether its probe pods ran: the run was cut before"),
        ({"probes": {"error": "namespaces is forbidden"}}, ProbeError, "namespaces is forbidden"),
        ({"probes": {"error": None, "probes": {}}}, RecordError, "probes.json: damaged: KeyError('a')"),
        ({"probes": {"error": None, "probes": {"a": {"x": 1}}}}, RecordError, "probes.json: damaged: TypeError("),
        ({"probes": []}, RecordError, "probes.json: damaged: TypeError("),
    ],
    ids=["cut", "failed", "node-missing", "no-probe", "no-object"],
)
def test_no_probes(files: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        backend(**files).start_probes(CLUSTER, ["a"], "new")
    assert str(caught.value).startswith(message)


def test_there_is_nobody_to_ask() -> None:
    access = backend().open_access(CLUSTER, {"a": GOOD, "b": BAD})
    with pytest.raises(AccessError) as caught:
        run(access.host("a"), ["cat", "/a b"])
    assert str(caught.value) == "a: this is a replay of run ab12: there is no node to run cat '/a b' on"
    with pytest.raises(AccessError) as caught:
        access.pod("a").request("facts", timeout_s=1.0)
    assert str(caught.value) == "a: this is a replay of run ab12: there is no node to ask for facts"
    assert (access.host("a").where, access.pod("a").where) == ("a (host)", "a (pod)")
    with pytest.raises(ProbeError, match="b: OutOfpods"):
        access.pod("b")
    with pytest.raises(ClusterError, match="this is a replay of run ab12: there is no API server to ask"):
        _ = backend().services
    with pytest.raises(ConfigurationError, match="got 'pool=x', and a recording has no labels to select by; name the nodes"):
        backend().select_nodes("pool=x")
