"""Judge Cilium in the place of kube-proxy: by facts made by hand, and by what a real lab gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ProxyExpectation, Wanted
from pytest_k8snet.judge import absence
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import NodeFacts
from pytest_k8snet.record.store import RunFolder
from tests.unit.judge.builder import document, facts, outcome, told

ORIGIN = "ConfigMap kube-system/cilium-config kube-proxy-replacement"
NONE = ProxyExpectation(mode=Wanted("none", ORIGIN))
OK = {"state": "Ok", "message": "1.15.19", "replacement": "True"}
ASK = "(curl --unix-socket /run/cilium/cilium.sock http://localhost/v1/healthz)"
SILENT = "node-1: Cilium's agent does not tell whether it replaces kube-proxy"
LIST = "(cilium-dbg bpf lb list)"
RECORDINGS = Path(__file__).parents[2] / "recordings"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cilium": OK}, ("pass", "")),
        ({"cilium": {**OK, "replacement": "Strict"}}, ("pass", "")),
        (
            {"cilium": {**OK, "replacement": "False"}},
            ("fail", f"node-1: Cilium's agent runs with kube-proxy replacement False, want True ({ORIGIN}) {ASK}"),
        ),
        (
            {"cilium": {**OK, "replacement": "Partial"}},
            ("inconclusive", f"node-1: Cilium's agent replaces kube-proxy in part (Partial), want all of it ({ORIGIN}) {ASK}"),
        ),
        (
            {"cilium": {**OK, "replacement": None}},
            ("error", f"node-1: Cilium's agent says nothing of kube-proxy replacement {ASK}"),
        ),
        (
            {},
            (
                "error",
                f"{SILENT}: there is no /run/cilium/cilium.sock on the node {ASK}",
            ),
        ),
        (
            {"cilium": None, "errors": {"cilium": "Cilium's agent at /run/cilium/cilium.sock: Connection refused"}},
            (
                "error",
                f"{SILENT}: Cilium's agent at /run/cilium/cilium.sock: Connection refused {ASK}",
            ),
        ),
    ],
    ids=["on", "strict", "off", "partial", "nothing said", "no socket", "refused"],
)
def test_replacement(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(absence.replacement(facts(**changes), NONE, "cilium")) == expected


def test_an_agent_that_is_not_well_is_a_remark() -> None:
    judgement = absence.replacement(facts(cilium={**OK, "state": "Warning", "message": "controllers are failing"}), NONE, "cilium")
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["node-1: Cilium's agent is in state Warning: controllers are failing"]


@pytest.mark.parametrize(
    ("expect", "cni", "reason"),
    [
        (NONE, "calico", "the cluster's network is calico, not Cilium's"),
        (NONE, None, "the cluster's network is unknown, not Cilium's"),
        (ProxyExpectation(), "cilium", "nothing says that there should be no kube-proxy"),
        (ProxyExpectation(mode=Wanted("ipvs", "claim")), "cilium", "kube-proxy is wanted, in mode ipvs (claim)"),
    ],
)
def test_replacement_is_judged_only_where_it_is_wanted(expect: ProxyExpectation, cni: str | None, reason: str) -> None:
    assert outcome(absence.replacement(facts(cilium=OK), expect, cni)) == ("skip", reason)


SERVICE = {"metadata": {"namespace": "default", "name": "web"}, "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}}
SLICE = {
    "metadata": {"namespace": "default", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
    "endpoints": [{"addresses": ["10.200.1.5"]}],
}
FRONTEND = {
    "address": "10.96.7.7",
    "port": 80,
    "protocol": "ANY",
    "affinity_s": None,
    "redirected": False,
    "backends": ["10.200.1.5:8080"],
    "lost_slots": 0,
}


def reading(*frontends: dict[str, Any], second: int = 0) -> dict[str, Any]:
    at = f"2026-11-24T03:00:{second:02}+00:00"
    return {"at": at, "table": None, "cilium": list(frontends), "services": [SERVICE], "endpoint_slices": [SLICE], "changed": []}


def record(*readings: dict[str, Any]) -> Document:
    values = {"loaded": False, "sync_period_s": 30.0, "kube_ipvs0": False, "node_ips": ["10.199.0.11"], "readings": list(readings)}
    return document("ipvs", "node-1", values)


def judged(recorded: Document, **changes: Any) -> tuple[str, str]:
    return outcome(absence.cilium_map_matches(recorded, facts(**{"cilium": OK, **changes}), "cilium", "10.199.0.11"))


def test_a_map_that_is_right() -> None:
    assert judged(record(reading(FRONTEND))) == ("pass", "")


@pytest.mark.parametrize(
    ("frontends", "message"),
    [
        ([], "TCP 10.96.7.7:80: no frontend, Service default/web port 80 wants one"),
        (
            [{**FRONTEND, "backends": [], "lost_slots": 1}],
            "TCP 10.96.7.7:80: no backend 10.200.1.5:8080, an endpoint of Service default/web",
        ),
        ([{**FRONTEND, "backends": ["10.200.1.5:8080", "10.200.1.9:8080"]}], "TCP 10.96.7.7:80: backend 10.200.1.9:8080 is no endpoint of"),
        ([FRONTEND, {**FRONTEND, "address": "10.96.9.9"}], "TCP 10.96.9.9:80: no Service asks for this frontend"),
    ],
    ids=["no frontend", "no backend", "stale backend", "stale frontend"],
)
def test_a_difference_that_lasts_is_a_fault(frontends: list[dict[str, Any]], message: str) -> None:
    verdict, said = judged(record(reading(*frontends), reading(*frontends, second=36)))
    assert verdict == "fail"
    assert said.startswith(f"node-1: {message}")
    assert said.endswith(f", for 36 s {LIST}")


def test_a_difference_that_was_seen_once_says_nothing() -> None:
    verdict, said = judged(record(reading()))
    assert verdict == "inconclusive"
    assert "seen over 0 s only, Cilium's agent has one sync period (30 s) to heal it" in said


def test_a_node_without_maps_is_an_error() -> None:
    assert judged(record()) == ("error", f"node-1: Cilium has no maps of Services in /sys/fs/bpf/tc/globals {LIST}")


def test_maps_that_were_not_read_beside_a_table_of_kube_proxy_are_an_error() -> None:
    beside = {**reading(), "cilium": None, "cilium_error": "the map of services has keys of 4 and values of 4 bytes"}
    told = "node-1: Cilium's maps of Services were not read: the map of services has keys of 4 and values of 4 bytes"
    assert judged(record(beside)) == ("error", f"{told} {LIST}")


def test_maps_that_were_not_read_are_an_error() -> None:
    with pytest.raises(RecordError, match="cilium_lb4_services_v2: Operation not permitted"):
        judged(document("ipvs", "node-1", None, "cilium_lb4_services_v2: Operation not permitted"))


@pytest.mark.parametrize(
    ("changes", "cni", "reason"),
    [
        ({"cilium": {**OK, "replacement": "False"}}, "cilium", "Cilium's agent does not replace all of kube-proxy here (False)"),
        ({"cilium": OK}, "calico", "the cluster's network is calico, not Cilium's"),
    ],
)
def test_maps_are_judged_only_where_they_serve(changes: dict[str, Any], cni: str, reason: str) -> None:
    assert outcome(absence.cilium_map_matches(record(reading()), facts(**changes), cni, None)) == ("skip", reason)


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        ("cilium", set()),
        ("cilium-faults-1", {("node-1", "map"), ("node-1", "tables"), ("node-2", "map")}),
        ("cilium-faults-2", {("node-1", "replacement"), ("node-2", "map"), ("node-2", "processes"), ("node-2", "chains")}),
    ],
)
def test_what_a_real_lab_gave(recording: str, expected: set[tuple[str, str]]) -> None:
    folder = RunFolder(RECORDINGS / recording)
    red = set()
    for node, address in (("node-1", "10.199.0.11"), ("node-2", "10.199.0.12")):
        recorded, table = folder.get("facts", node), folder.get("ipvs", node)
        assert recorded is not None
        assert table is not None
        of_node = NodeFacts.from_document(recorded)
        judgements = {
            "replacement": absence.replacement(of_node, NONE, "cilium"),
            "map": absence.cilium_map_matches(table, of_node, "cilium", address),
            "processes": absence.processes(of_node, NONE),
            "chains": absence.iptables_chains(of_node, NONE),
            "tables": absence.nft_tables(of_node, NONE),
            "ipvs": absence.ipvs_leftovers(of_node, NONE),
        }
        red |= {(node, name) for name, judgement in judgements.items() if judgement.verdict not in ("pass", "skip")}
    assert red == expected
