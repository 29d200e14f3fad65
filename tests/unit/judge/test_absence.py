from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.expect.model import ProxyExpectation, Wanted
from pytest_k8snet.judge import absence
from tests.unit.judge.builder import TABLE, TABLE_HEAD, facts, link, outcome, told

ORIGIN = "profile kube-proxy-free.yaml:4"
NONE = ProxyExpectation(mode=Wanted("none", ORIGIN))

NO_PROXY: dict[str, Any] = {"mode": None, "mode_error": "connection refused", "listening": False, "processes": []}
NO_CHAINS = {"tables": ["nat"], "chains": ["KUBE-KUBELET-CANARY", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"], "reachable": ["KUBE-POSTROUTING"]}
ABSENT: dict[str, Any] = {
    "kube_proxy": NO_PROXY,
    "host__links": [link("lo", 65536), link("eth0")],
    "ipvs": {"loaded": False, "table": None},
    "iptables__legacy": NO_CHAINS,
}


@pytest.mark.parametrize("judge", [absence.processes, absence.iptables_chains, absence.nft_tables, absence.ipvs_leftovers])
@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        (ProxyExpectation(), "nothing says that there should be no kube-proxy"),
        (ProxyExpectation(mode=Wanted("ipvs", "profile ipvs.yaml:4")), "kube-proxy is wanted, in mode ipvs (profile ipvs.yaml:4)"),
        (
            ProxyExpectation(mode_unknown="FelixConfiguration: not readable: HTTP 403"),
            "whether there should be no kube-proxy could not be read (FelixConfiguration: not readable: HTTP 403)",
        ),
    ],
)
def test_absence_is_judged_only_where_it_is_wanted(judge: Any, expect: ProxyExpectation, reason: str) -> None:
    assert outcome(judge(facts(), expect)) == ("skip", reason)
    judgement = absence.workloads(cluster(), expect)
    assert outcome(judgement) == ("skip", reason)
    assert judgement.unsupported is (expect.mode_unknown is not None)


@pytest.mark.parametrize("judge", [absence.processes, absence.iptables_chains, absence.nft_tables, absence.ipvs_leftovers])
def test_a_node_without_kube_proxy_is_healthy(judge: Any) -> None:
    judgement = judge(facts(**ABSENT), NONE)
    assert (outcome(judgement), judgement.findings) == (("pass", ""), [])


ASK = "curl http://127.0.0.1:10249/proxyMode"


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        pytest.param(
            {**NO_PROXY, "processes": ["pid 812: /usr/local/bin/kube-proxy --config=/x"]},
            (
                "fail",
                f"node-1: kube-proxy runs (pid 812: /usr/local/bin/kube-proxy --config=/x), want mode none ({ORIGIN}) (ps -e -o pid,args)",
            ),
            id="process",
        ),
        pytest.param(
            {"mode": "iptables", "mode_error": None, "listening": True, "processes": []},
            ("fail", f"node-1: 127.0.0.1:10249/proxyMode answers iptables, want mode none ({ORIGIN}) ({ASK})"),
            id="inside-another-process",
        ),
        pytest.param(
            {"mode": None, "mode_error": "timed out after 2 s", "listening": True, "processes": []},
            (
                "inconclusive",
                f"node-1: something listens on port 10249 and tells no mode (timed out after 2 s) ({ASK})",
            ),
            id="port-taken-by-something-mute",
        ),
        pytest.param(
            {"mode": None, "mode_error": "HTTP 404", "listening": True, "processes": []}, ("pass", ""), id="port-taken-by-another"
        ),
    ],
)
def test_processes(proxy: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(absence.processes(facts(**{**ABSENT, "kube_proxy": proxy}), NONE)) == expected


def test_the_port_is_that_at_which_it_was_asked() -> None:
    proxy: dict[str, Any] = {"mode": "iptables", "mode_error": None, "listening": True, "processes": [], "port": 29102}
    judgement = absence.processes(facts(**{**ABSENT, "kube_proxy": proxy}), NONE)
    ask = "curl http://127.0.0.1:29102/proxyMode"
    assert outcome(judgement) == ("fail", f"node-1: 127.0.0.1:29102/proxyMode answers iptables, want mode none ({ORIGIN}) ({ask})")
    assert judgement.want == f"no process and no answer on port 29102, mode none ({ORIGIN})"


def cluster(*daemonsets: dict[str, Any]) -> Cluster:
    return Cluster("v1.37.2", (), {}, daemonsets, None)


DAEMONSET = {"namespace": "kube-system", "name": "kube-proxy", "desired": 3, "ready": 3, "node_selector": {}, "pods": []}


@pytest.mark.parametrize(
    ("found", "expected", "remarks"),
    [
        pytest.param(cluster(), ("pass", ""), [], id="none"),
        pytest.param(
            cluster({**DAEMONSET, "pods": [{"name": "kube-proxy-abc", "node": "node-1", "static": False}]}),
            (
                "fail",
                (
                    f"DaemonSet kube-system/kube-proxy wants 3 pods, 1 are there (kube-proxy-abc on node-1), want mode none ({ORIGIN}) "
                    "(kubectl -n kube-system get daemonset kube-proxy)"
                ),
            ),
            [],
            id="daemonset",
        ),
        pytest.param(
            cluster({**DAEMONSET, "desired": 0, "pods": [{"name": "kube-proxy-node-1", "node": "node-1", "static": True}]}),
            (
                "fail",
                (
                    "DaemonSet kube-system/kube-proxy wants 0 pods, 1 are there (kube-proxy-node-1 on node-1, static), "
                    f"want mode none ({ORIGIN}) (kubectl -n kube-system get daemonset kube-proxy)"
                ),
            ),
            [],
            id="static-pod",
        ),
        pytest.param(
            cluster({**DAEMONSET, "desired": 0, "node_selector": {"non-calico": "true"}}),
            ("pass", ""),
            ["DaemonSet kube-system/kube-proxy is there and wants no pod (node selector {'non-calico': 'true'})"],
            id="selector-that-matches-nothing",
        ),
    ],
)
def test_workloads(found: Cluster, expected: tuple[str, str], remarks: list[str]) -> None:
    judgement = absence.workloads(found, NONE)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == remarks


LEFT = ["KUBE-SERVICES", "KUBE-SVC-AAAA", "KUBE-SEP-BBBB", "KUBE-KUBELET-CANARY", "KUBE-MARK-MASQ"]


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_chains_in_force_are_a_fault_in_either_back_end(backend: str) -> None:
    found = facts(**{**ABSENT, f"iptables__{backend}": {"tables": ["nat"], "chains": LEFT, "reachable": LEFT}})
    assert outcome(absence.iptables_chains(found, NONE)) == (
        "fail",
        (
            f"node-1: 3 chains of kube-proxy are in force in iptables-{backend} (KUBE-SERVICES, KUBE-SVC-AAAA, KUBE-SEP-BBBB), "
            f"want none ({ORIGIN}) (iptables-{backend}-save -t nat)"
        ),
    )


def test_unreferenced_chains_are_a_remark() -> None:
    judgement = absence.iptables_chains(
        facts(**{**ABSENT, "iptables__legacy": {"tables": ["nat"], "chains": LEFT, "reachable": ["KUBE-MARK-MASQ"]}}), NONE
    )
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        (
            "node-1: 3 chains of kube-proxy are left over in iptables-legacy, no packet reaches them "
            "(KUBE-SERVICES, KUBE-SVC-AAAA, KUBE-SEP-BBBB)"
        )
    ]


def test_a_back_end_that_was_not_read_is_an_error() -> None:
    found = facts(**{**ABSENT, "iptables__nft": {"tables": [], "chains": [], "reachable": [], "error": "iptables-nft-save: not found"}})
    assert outcome(absence.iptables_chains(found, NONE)) == (
        "error",
        "node-1: iptables-nft was not read: iptables-nft-save: not found (iptables-nft-save -t nat)",
    )
    assert outcome(absence.iptables_chains(facts(**{**ABSENT, "iptables": {"legacy": NO_CHAINS}}), NONE)) == (
        "error",
        "node-1: iptables-nft was not read: not measured (iptables-nft-save -t nat)",
    )


# Constructed documents: nothing here was recorded on a node that runs nftables mode.
@pytest.mark.parametrize(
    ("nft", "expected"),
    [
        pytest.param({"tables": ["ip filter", "inet cilium"], "error": None}, ("pass", ""), id="constructed-other-tables"),
        pytest.param(
            {"tables": ["ip kube-proxy", "ip6 kube-proxy", "ip nat"], "error": None},
            ("fail", f"node-1: nftables has table ip kube-proxy and ip6 kube-proxy, want none ({ORIGIN}) (nft list tables)"),
            id="constructed-left-over",
        ),
        pytest.param(
            {"tables": [], "error": "nft: syntax error, unexpected newline"},
            (
                "inconclusive",
                "node-1: the nftables tables could not be listed: nft: syntax error, unexpected newline (nft list tables)",
            ),
            id="constructed-parse-error",
        ),
    ],
)
def test_nft_tables(nft: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(absence.nft_tables(facts(**{**ABSENT, "nft": nft}), NONE)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"ipvs": {"loaded": True, "table": TABLE_HEAD}}, ("pass", ""), id="loaded-and-empty"),
        pytest.param(
            {"ipvs": {"loaded": True, "table": TABLE}},
            (
                "fail",
                (
                    "node-1: 2 virtual servers in the IPVS table (TCP 10.96.0.1:443, TCP 10.96.0.10:53), want none "
                    f"({ORIGIN}) (cat /proc/net/ip_vs)"
                ),
            ),
            id="virtual-servers",
        ),
        pytest.param(
            {"host__links": [link("eth0"), link("kube-ipvs0", kind="dummy")]},
            ("fail", f"node-1: device kube-ipvs0 is there, want none ({ORIGIN}) (ip link show kube-ipvs0)"),
            id="kube-ipvs0",
        ),
        pytest.param(
            {"ipvs": {"loaded": True, "table": None}, "errors": {"ipvs": "Permission denied"}},
            ("error", "node-1: /proc/net/ip_vs was not read: Permission denied (cat /proc/net/ip_vs)"),
            id="not-read",
        ),
        pytest.param(
            {"ipvs": {"loaded": True, "table": "oops"}},
            ("error", "node-1: not a table of /proc/net/ip_vs: it starts with 'oops' (cat /proc/net/ip_vs)"),
            id="not-a-table",
        ),
        pytest.param(
            {"ipvs": {"loaded": True, "table": TABLE}, "host__links": [link("eth0"), link("kube-dummy-if", kind="dummy")]},
            ("pass", ""),
            id="kube-router",
        ),
    ],
)
def test_ipvs_leftovers(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(absence.ipvs_leftovers(facts(**{**ABSENT, **changes}), NONE)) == expected


@pytest.mark.parametrize(
    ("changes", "services", "verdict"),
    [
        pytest.param({}, ("172.20.0.0/16", "fd00::/108"), "pass", id="none-within"),
        pytest.param({}, ("172.20.0.0/16", "10.96.0.10/32"), "fail", id="one-within"),
        pytest.param({}, (), "fail", id="range-not-known"),
        pytest.param({"host__links": [link("eth0"), link("kube-ipvs0", kind="dummy")]}, ("172.20.0.0/16",), "fail", id="kube-ipvs0"),
    ],
)
def test_virtual_servers_of_another_program(changes: dict[str, Any], services: tuple[str, ...], verdict: str) -> None:
    of_node = facts(**{**ABSENT, "ipvs": {"loaded": True, "table": TABLE}, **changes})
    judgement = absence.ipvs_leftovers(of_node, NONE, [ip_network(cidr) for cidr in services])
    assert outcome(judgement)[0] == verdict
    words = "node-1: 2 virtual servers (TCP 10.96.0.1:443, TCP 10.96.0.10:53) are another program's: none is within the Services' ranges"
    assert told(judgement, "remark") == ([words] if "172.20.0.0/16" in services[:1] and "10.96.0.10/32" not in services else [])


def test_chains_that_are_only_counted() -> None:
    """The agent names no more than the first of those whose names are hashes."""
    many = {"chains": LEFT, "more_chains": {"KUBE-SVC-": 950, "KUBE-POOL-": 7}, "reachable": LEFT[:1], "more_reachable": {"KUBE-SVC-": 900}}
    judgement = absence.iptables_chains(facts(**{**ABSENT, "iptables__legacy": {"tables": ["nat"], **many}}), NONE)
    first = LEFT[0]
    assert outcome(judgement) == (
        "fail",
        f"node-1: 901 chains of kube-proxy are in force in iptables-legacy ({first}), want none ({ORIGIN}) (iptables-legacy-save -t nat)",
    )
    assert told(judgement, "remark")[0].startswith(
        "node-1: 52 chains of kube-proxy are left over in iptables-legacy, no packet reaches them ("
    )
