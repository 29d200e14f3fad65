from __future__ import annotations

import base64
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.fake import ENDPOINT_SLICES, SERVICES, FakeCluster, FakeObjects
from pytest_k8snet.errors import ClusterError
from pytest_k8snet.measure import ipvs
from pytest_k8snet.measure.registry import MeasureContext
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.ipvs import SYNC_PERIOD_S, exclude_cidrs, sync_period_s
from tests.unit.measure.faked import Cut, context

OLD = {"kubeproxy.config.k8s.io": {"Mode": "ipvs", "IPVS": {"SyncPeriod": "1m30s", "ExcludeCIDRs": ["10.9.0.0/16"]}}}
NEW = {"kubeproxy.config.k8s.io": {"kind": "KubeProxyConfiguration", "ipvs": {"syncPeriod": "0s", "excludeCIDRs": ["10.9.0.0/16"]}}}


@pytest.mark.parametrize(
    ("configz", "period_s", "excluded"),
    [
        pytest.param(OLD, 90.0, ("10.9.0.0/16",), id="before-1.36"),
        pytest.param(NEW, 30.0, ("10.9.0.0/16",), id="from-1.36-on"),
        pytest.param(
            {"kubeproxy.config.k8s.io": {"ipvs": {"syncPeriod": 45_000_000_000, "excludeCIDRs": None}}}, 45.0, (), id="nanoseconds"
        ),
        pytest.param({"kubeproxy.config.k8s.io": {"ipvs": None}}, 30.0, (), id="no-settings"),
        pytest.param(None, 30.0, (), id="not-told"),
    ],
)
def test_settings_that_kube_proxy_tells(configz: dict[str, Any] | None, period_s: float, excluded: tuple[str, ...]) -> None:
    assert (sync_period_s(configz), exclude_cidrs(configz)) == (period_s, excluded)


def test_reading_that_was_cut_is_taken_again() -> None:
    fake = FakeCluster(["node-1"])
    answers = Cut(fake, "node-1", "host", "ipvs")
    fake.answer("node-1", "ipvs", answers)
    (document,) = ipvs.take(context(fake), ["node-1"])
    assert document.values is not None
    assert len(document.values["readings"]) == 1
    assert (document.retried, answers.asked) == ("node-1: the exec stream ended", 2)


def test_large_clusters_are_read_in_parts_and_settled_tables_are_given_at_once() -> None:
    """The one table that differs is looked at again and again; nobody waits for that with the other nodes."""
    names = [f"node-{number:03}" for number in range(1, 251)]
    fake = FakeCluster(names)
    empty = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight\n"
    fake.answer("node-120", "ipvs", {"loaded": True, "table": empty, "kube_ipvs0": True, "mode": "ipvs", "configz": None})
    given = context(fake)
    documents = ipvs.take(given, names)
    first = [next(documents).subject for _ in range(249)]
    assert sorted([*first, "node-120"]) == names
    given.stopped.set()  # nobody waits for the last one any more
    (last,) = documents
    assert last.values is not None
    assert (last.subject, len(last.values["readings"])) == ("node-120", 1)


def test_an_api_that_fails_leaves_no_node_without_a_document() -> None:
    names = [f"node-{number:03}" for number in range(1, 251)]
    lists = iter(range(2))  # before and after the first hundred nodes; the second of them is the first one of the next hundred

    class Failing(FakeObjects):
        def services(self) -> list[dict[str, Any]]:
            if next(lists, None) is None:
                raise ClusterError("the API server is on fire")
            return super().services()

    given = replace(context(FakeCluster(names)), services=Failing(SERVICES, ENDPOINT_SLICES))
    documents = [*ipvs.take(given, names)]
    assert sorted(document.subject for document in documents) == names
    failed = [document for document in documents if document.values is None]
    assert len(failed) == 150
    assert {document.reason for document in failed} == {"the API server is on fire"}


def test_each_table_is_given_the_time_of_a_sync_from_the_end_of_its_first_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reading does not shorten it, and the first nodes of a large cluster do not wait for the last one."""
    clock = [1000.0]
    read: dict[str, list[float]] = {}

    def slow(context: MeasureContext, tables: Sequence[Any], listed: Any) -> Any:
        clock[0] += 20.0
        for table in tables:
            read.setdefault(table.node.name, []).append(clock[0])
            table.answer = {"loaded": True, "kube_ipvs0": True, "mode": "ipvs", "table": "", "configz": None}
        return real(context, tables, listed)

    class Waiting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock[0] += timeout or 0.0
            return False

    empty = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight\n"
    names = [f"node-{number:03}" for number in range(1, 151)]
    fake = FakeCluster(names)
    for name in ("node-001", "node-150"):
        fake.answer(name, "ipvs", {"loaded": True, "table": empty, "kube_ipvs0": True, "mode": "ipvs", "configz": None})
    real = ipvs._read
    with monkeypatch.context() as patch:
        patch.setattr(ipvs, "_read", slow)
        patch.setattr(time, "monotonic", lambda: clock[0])
        given = replace(context(fake), stopped=Waiting())
        documents = {document.subject: clock[0] for document in ipvs.take(given, names)}
    assert documents["node-001"] < documents["node-150"]
    for name in ("node-001", "node-150"):
        assert read[name][-1] - read[name][0] >= SYNC_PERIOD_S
        assert read[name][-1] == documents[name]


LISTING = (Path(__file__).parent.parent / "cluster" / "nft" / "kube-proxy.json").read_text()
IN_NFTABLES_MODE = {"loaded": False, "table": None, "kube_ipvs0": False, "mode": "nftables", "configz": None}


def ran(exit_status: int, stdout: str = "", stderr: str = "") -> dict[str, Any]:
    return {"exit_status": exit_status, "stdout": stdout, "stderr": stderr, "duration_s": 0.1}


def taken(run: dict[str, Any]) -> Document:
    fake = FakeCluster(["node-1"])
    fake.answer("node-1", "ipvs", IN_NFTABLES_MODE)
    fake.answer("node-1", "run", run)
    given = context(fake)
    given.stopped.set()
    (document,) = ipvs.take(given, ["node-1"])
    return document


def test_in_nftables_mode_its_table_is_read() -> None:
    values = taken(ran(0, LISTING)).values
    assert values is not None
    (reading,) = values["readings"]
    assert [[*table] for table in reading["nft"]] == [["elements", "chains", "affinity_s"]]


def test_a_table_that_is_not_there_serves_nothing() -> None:
    values = taken(ran(1, stderr="Error: No such file or directory\nlist table ip kube-proxy\n")).values
    assert values is not None
    assert values["readings"][0]["nft"] == []


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (ran(1, stderr="Error: syntax error"), "nft -j list table ip kube-proxy: exit status 1: Error: syntax error"),
        (ran(0, "nonsense"), "not a listing of nft: "),
    ],
)
def test_a_table_that_nft_cannot_print_is_no_finding(run: dict[str, Any], reason: str) -> None:
    document = taken(run)
    assert document.values is None
    assert reason in (document.reason or "")


def test_in_other_modes_nft_is_not_asked() -> None:
    fake = FakeCluster(["node-1"])
    (document,) = ipvs.take(context(fake), ["node-1"])
    assert document.values is not None
    assert [op for _, _, op in fake.requests] == ["ipvs"]


def in_cilium(maps: dict[str, Any], **table: Any) -> Document:
    fake = FakeCluster(["node-1"])
    fake.answer("node-1", "ipvs", {**IN_NFTABLES_MODE, "mode": None, **table})
    fake.answer("node-1", "cilium.maps", maps)
    given = context(fake)
    given.stopped.set()
    (document,) = ipvs.take(replace(given, cluster=replace(given.cluster, cni="cilium")), ["node-1"])
    return document


def test_where_the_network_is_ciliums_its_maps_are_read() -> None:
    head, slot = bytes([10, 96, 0, 1, 1, 187, 0, 0, 0, 0, 0, 0]), bytes([10, 96, 0, 1, 1, 187, 1, 0, 0, 0, 0, 0])
    services = head + bytes([0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]) + slot + bytes([7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0])
    backends = bytes([7, 0, 0, 0, 10, 199, 0, 1, 25, 43, 0, 0, 0, 0, 0, 0])
    maps = {
        "services": {"key_bytes": 12, "value_bytes": 12, "entries": base64.b64encode(services).decode()},
        "backends": {"key_bytes": 4, "value_bytes": 12, "entries": base64.b64encode(backends).decode()},
    }
    values = in_cilium({"big_endian": False, "4": maps, "6": None}).values
    assert values is not None
    (frontend,) = values["readings"][0]["cilium"]
    assert (frontend["address"], frontend["port"], frontend["backends"]) == ("10.96.0.1", 443, ["10.199.0.1:6443"])


def test_a_node_that_has_no_maps_of_cilium() -> None:
    values = in_cilium({"big_endian": False, "4": None, "6": None}).values
    assert values is not None
    assert values["readings"] == []


def test_maps_of_an_unknown_layout_are_no_finding() -> None:
    table = {"key_bytes": 4, "value_bytes": 4, "entries": ""}
    document = in_cilium({"big_endian": False, "4": {"services": table, "backends": {**table, "value_bytes": 12}}, "6": None})
    assert document.values is None
    assert "has keys of 4 and values of 4 bytes" in (document.reason or "")


NO_SERVER = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight\n"


@pytest.mark.parametrize(("mode", "differs"), [("ipvs", True), ("iptables", False), (None, False)])
def test_a_table_of_kube_proxy_is_compared_beside_maps_of_cilium_that_are_right(mode: str | None, differs: bool) -> None:
    node = context(FakeCluster(["node-1"])).cluster.node("node-1")
    stale = f"{NO_SERVER}TCP  0A600001:01BB rr\n  -> C0A80A01:192B      Masq    1\n"
    assert ipvs._differs(ipvs._Table(node, {"mode": mode, "table": stale, "cilium": []}), [], [], []) is differs


def test_maps_of_an_unknown_layout_do_not_spoil_the_table_of_kube_proxy() -> None:
    table = {"key_bytes": 4, "value_bytes": 4, "entries": ""}
    maps = {"big_endian": False, "4": {"services": table, "backends": {**table, "value_bytes": 12}}, "6": None}
    values = in_cilium(maps, mode="ipvs", loaded=True, table=NO_SERVER, kube_ipvs0=True).values
    assert values is not None
    (reading,) = values["readings"]
    assert (reading["table"], "cilium" in reading) == (NO_SERVER, False)
    assert "has keys of 4 and values of 4 bytes" in reading["cilium_error"]
