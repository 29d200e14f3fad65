from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.cluster.model import Claim, Cluster, Node
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ProxyExpectation, Wanted
from pytest_k8snet.judge import proxy
from pytest_k8snet.record.document import Document
from tests.unit.judge.builder import TABLE, TABLE_HEAD, document, facts, facts_document, link, outcome, sysctls, told

CLAIM = "claim ConfigMap kube-system/kube-proxy config.conf mode"
IPVS = ProxyExpectation(
    mode=Wanted("ipvs", CLAIM), scheduler=Wanted("rr", "profile ipvs.yaml:5"), strict_arp=Wanted(True, "profile x.yaml:4")
)
IPTABLES = ProxyExpectation(mode=Wanted("iptables", CLAIM))
NONE = ProxyExpectation(mode=Wanted("none", "profile kube-proxy-free.yaml:4"))
NO_PROXY_WANTED = "no kube-proxy is wanted (profile kube-proxy-free.yaml:4): the absence checks judge that"

GONE: dict[str, Any] = {"mode": None, "mode_error": "connection refused", "listening": False, "processes": []}
MUTE = {"mode": None, "mode_error": "timed out after 2 s", "listening": True, "processes": ["pid 812: kube-proxy"]}
RUNS_IPTABLES = {"mode": "iptables", "mode_error": None, "listening": True, "processes": ["pid 812: kube-proxy"]}
NO_IPVS_LINKS = [link("lo", 65536), link("eth0")]
CHAINS = ["KUBE-SERVICES", "KUBE-SVC-AAAA", "KUBE-SEP-BBBB"]


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, IPVS, ("pass", ""), id="healthy"),
        pytest.param(
            {"kube_proxy": RUNS_IPTABLES},
            IPVS,
            (
                "fail",
                f"node-1: kube-proxy runs in mode iptables, want ipvs ({CLAIM}) (curl http://127.0.0.1:10249/proxyMode)",
            ),
            id="other-mode",
        ),
        pytest.param(
            {"kube_proxy": GONE},
            IPVS,
            (
                "fail",
                (
                    "node-1: kube-proxy does not tell its mode (connection refused) and no process of it runs, "
                    f"want mode ipvs ({CLAIM}) (curl http://127.0.0.1:10249/proxyMode)"
                ),
            ),
            id="not-running",
        ),
        pytest.param(
            {"kube_proxy": MUTE},
            IPVS,
            ("error", "node-1: kube-proxy does not tell its mode (timed out after 2 s) (curl http://127.0.0.1:10249/proxyMode)"),
            id="does-not-answer",
        ),
        pytest.param(
            {"kube_proxy": {**GONE, "processes": ["pid 812: kube-proxy --metrics-bind-address=192.168.10.11"]}},
            IPVS,
            ("error", "node-1: kube-proxy does not tell its mode (connection refused) (curl http://127.0.0.1:10249/proxyMode)"),
            id="answers-on-another-address",
        ),
        pytest.param(
            {"iptables__legacy": {"tables": ["nat"], "chains": CHAINS, "reachable": CHAINS}},
            IPVS,
            (
                "fail",
                (
                    "node-1: 2 chains of iptables mode are still in force beside mode ipvs "
                    "(iptables-legacy: KUBE-SVC-AAAA, KUBE-SEP-BBBB), want none (iptables-legacy-save -t nat)"
                ),
            ),
            id="chains-of-iptables-mode-in-force",
        ),
        pytest.param(
            {
                "iptables__legacy": {
                    "tables": ["nat"],
                    "chains": [],
                    "reachable": [],
                    "error": "iptables-legacy-save: neither here nor there",
                }
            },
            IPVS,
            (
                "error",
                (
                    "node-1: whether chains of iptables mode are in force was not read: iptables-legacy-save: neither here nor there "
                    "(iptables-legacy-save -t nat)"
                ),
            ),
            id="chains-not-read",
        ),
        pytest.param({}, NONE, ("skip", NO_PROXY_WANTED), id="none-wanted"),
        pytest.param(
            {},
            ProxyExpectation(),
            ("skip", "nothing says which mode kube-proxy should run in: the cluster claims none and no profile gives one"),
            id="nothing-wanted",
        ),
    ],
)
def test_mode_in_force(changes: dict[str, Any], expect: ProxyExpectation, expected: tuple[str, str]) -> None:
    assert outcome(proxy.mode_in_force(facts(**changes), expect, "v1.34.1")) == expected


def test_unreferenced_chains_of_iptables_mode_are_a_remark() -> None:
    judgement = proxy.mode_in_force(
        facts(iptables__legacy={"tables": ["nat"], "chains": CHAINS, "reachable": ["KUBE-SERVICES"]}), IPVS, "v1.34.1"
    )
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        "node-1: 2 chains of iptables mode are left over, no packet reaches them (iptables-legacy: KUBE-SVC-AAAA, KUBE-SEP-BBBB)"
    ]


def test_chains_of_iptables_mode_in_iptables_mode_are_no_finding() -> None:
    judgement = proxy.mode_in_force(
        facts(
            kube_proxy=RUNS_IPTABLES,
            host__links=NO_IPVS_LINKS,
            iptables__legacy={"tables": ["nat"], "chains": CHAINS, "reachable": CHAINS},
        ),
        IPTABLES,
        "v1.37.2",
    )
    assert (outcome(judgement), told(judgement, "remark")) == (("pass", ""), [])


@pytest.mark.parametrize(("version", "advised"), [("v1.32.9", False), ("v1.33.0", True)])
def test_nftables_mode_is_advised_from_the_release_that_made_it_stable(version: str, advised: bool) -> None:
    judgement = proxy.mode_in_force(facts(kube_proxy=RUNS_IPTABLES, host__links=NO_IPVS_LINKS), IPTABLES, version)
    wanted = (
        "node-1: mode iptables was kube-proxy's default for long; nftables mode is stable since Kubernetes 1.33 and the default from 1.40 "
        "(KEP-3866, KEP-5343)"
    )
    assert told(judgement, "advice") == ([wanted] if advised else [])


def test_tables_of_nftables_mode_in_force_beside_another() -> None:
    judgement = proxy.mode_in_force(facts(nft={"tables": ["ip kube-proxy", "ip6 kube-proxy", "inet own"], "error": None}), IPVS, "v1.34.0")
    assert outcome(judgement) == (
        "fail",
        (
            "node-1: nftables has table ip kube-proxy and ip6 kube-proxy of nftables mode, in force beside mode ipvs, want none "
            "(nft list tables)"
        ),
    )
    judgement = proxy.mode_in_force(facts(nft={"tables": [], "error": "nft: no such tool"}), IPVS, "v1.34.0")
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["node-1: whether tables of nftables mode are left was not read: nft: no such tool"]


def test_the_dummy_device_that_ipvs_mode_left_is_a_remark() -> None:
    judgement = proxy.mode_in_force(facts(kube_proxy=RUNS_IPTABLES), IPTABLES, "v1.37.2")
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["node-1: kube-ipvs0 and its virtual servers are left over from ipvs mode"]


@pytest.mark.parametrize(("version", "advised"), [("v1.34.9", False), ("v1.35.0", True), ("v1.37.2+k3s1", True), ("unknown", False)])
def test_ipvs_mode_is_advised_against_from_the_release_that_deprecated_it(version: str, advised: bool) -> None:
    judgement = proxy.mode_in_force(facts(), IPVS, version)
    assert outcome(judgement) == ("pass", "")
    assert bool(told(judgement, "advice")) is advised


def cluster(**groups: str) -> Cluster:
    nodes = tuple(
        Node(name.replace("_", "-"), "192.168.10.11", (), True, None, True, False, group, "linux") for name, group in groups.items()
    )
    return Cluster("v1.37.2", nodes, {}, (), None)


THREE = cluster(node_1="a", node_2="a", node_3="a")


@pytest.mark.parametrize(
    ("nodes", "documents", "expected"),
    [
        pytest.param(
            THREE,
            {"node-1": facts_document("node-1"), "node-2": facts_document("node-2"), "node-3": facts_document("node-3")},
            ("pass", ""),
        ),
        pytest.param(
            THREE,
            {
                "node-1": facts_document("node-1"),
                "node-2": facts_document("node-2", kube_proxy=RUNS_IPTABLES),
                "node-3": facts_document("node-3"),
            },
            (
                "fail",
                (
                    "node-2: kube-proxy runs in mode iptables, want ipvs as its equals have it (node-1, node-3) "
                    "(curl http://127.0.0.1:10249/proxyMode)"
                ),
            ),
            id="odd-one-out",
        ),
        pytest.param(
            cluster(node_1="a", node_2="a"),
            {"node-1": facts_document("node-1"), "node-2": facts_document("node-2", kube_proxy=GONE)},
            (
                "fail",
                "equal nodes run kube-proxy in different modes: ipvs on node-1; none on node-2 (curl http://127.0.0.1:10249/proxyMode)",
            ),
            id="no-majority",
        ),
        pytest.param(
            cluster(node_1="a", node_2="b"),
            {"node-1": facts_document("node-1"), "node-2": facts_document("node-2", kube_proxy=RUNS_IPTABLES)},
            ("skip", "no two nodes are equal (pool, OS, kernel, machine type): nothing to compare"),
            id="different-groups",
        ),
        pytest.param(
            THREE,
            {
                "node-1": facts_document("node-1"),
                "node-2": facts_document("node-2"),
                "node-3": document("facts", "node-3", None, "pods of node-3: image cannot be pulled"),
            },
            ("error", "node-3: no facts: pods of node-3: image cannot be pulled"),
            id="a-node-not-measured",
        ),
        pytest.param(
            THREE,
            {
                "node-1": facts_document("node-1"),
                "node-2": facts_document("node-2"),
                "node-3": facts_document("node-3", kube_proxy=MUTE),
            },
            ("error", "node-3: kube-proxy does not tell its mode (timed out after 2 s) (curl http://127.0.0.1:10249/proxyMode)"),
            id="a-node-does-not-answer",
        ),
    ],
)
def test_nodes_agree(nodes: Cluster, documents: dict[str, Document], expected: tuple[str, str]) -> None:
    assert outcome(proxy.nodes_agree(documents, nodes, IPVS)) == expected


def test_nodes_are_not_compared_where_no_proxy_is_wanted() -> None:
    assert outcome(proxy.nodes_agree({}, THREE, NONE)) == ("skip", NO_PROXY_WANTED)


NOT_IPVS = [
    pytest.param({"kube_proxy": RUNS_IPTABLES}, IPVS, ("skip", "kube-proxy runs in mode iptables here, not ipvs"), id="iptables"),
    pytest.param({"kube_proxy": GONE}, IPVS, ("skip", "kube-proxy does not run here, in ipvs mode or any other"), id="not-running"),
    pytest.param(
        {"kube_proxy": MUTE},
        IPVS,
        ("error", "node-1: kube-proxy does not tell its mode (timed out after 2 s) (curl http://127.0.0.1:10249/proxyMode)"),
        id="does-not-answer",
    ),
    pytest.param({}, NONE, ("skip", NO_PROXY_WANTED), id="none-wanted"),
]


@pytest.mark.parametrize(("changes", "expect", "expected"), NOT_IPVS)
def test_checks_of_ipvs_mode_apply_where_it_is_in_force(
    changes: dict[str, Any], expect: ProxyExpectation, expected: tuple[str, str]
) -> None:
    node = facts(**changes)
    failed = document("ipvs", "node-1", None, "not an ipvs node")
    for judgement in (
        proxy.scheduler(node, expect),
        proxy.kernel_support(node, expect),
        proxy.strict_arp(node, expect),
        proxy.table_matches(failed, node, expect, "192.168.10.11"),
    ):
        assert outcome(judgement) == expected


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, IPVS, ("pass", ""), id="healthy"),
        pytest.param(
            {"ipvs__table": TABLE.replace(" rr\n", " wrr\n")},
            IPVS,
            (
                "fail",
                (
                    "node-1: scheduler wrr on 2 of 2 virtual servers (TCP 10.96.0.1:443, TCP 10.96.0.10:53), "
                    "want rr (profile ipvs.yaml:5) (cat /proc/net/ip_vs)"
                ),
            ),
            id="another-scheduler",
        ),
        pytest.param(
            {"ipvs__table": TABLE.replace("0035 rr\n", "0035 sh\n", 1)},
            IPVS,
            (
                "fail",
                "node-1: scheduler sh on 1 of 2 virtual servers (TCP 10.96.0.10:53), want rr (profile ipvs.yaml:5) (cat /proc/net/ip_vs)",
            ),
            id="another-scheduler-on-one",
        ),
        pytest.param(
            {"ipvs__table": TABLE_HEAD},
            IPVS,
            ("inconclusive", "node-1: the IPVS table is empty, there is no scheduler to look at (cat /proc/net/ip_vs)"),
            id="empty-table",
        ),
        pytest.param(
            {"ipvs__table": None}, IPVS, ("error", "node-1: /proc/net/ip_vs was not read (cat /proc/net/ip_vs)"), id="table-not-read"
        ),
        pytest.param(
            {"ipvs__table": "Permission denied"},
            IPVS,
            (
                "error",
                "node-1: not a table of /proc/net/ip_vs: it starts with 'Permission denied' (cat /proc/net/ip_vs)",
            ),
            id="not-a-table",
        ),
        pytest.param(
            {},
            ProxyExpectation(mode=Wanted("ipvs", CLAIM)),
            ("skip", "nothing says which IPVS scheduler is wanted: the cluster claims none and no profile gives one"),
            id="nothing-wanted",
        ),
    ],
)
def test_scheduler(changes: dict[str, Any], expect: ProxyExpectation, expected: tuple[str, str]) -> None:
    assert outcome(proxy.scheduler(facts(**changes), expect)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, ("pass", ""), id="healthy"),
        pytest.param(
            {"ipvs": {"loaded": False, "table": None}},
            ("fail", "node-1: the kernel has no /proc/net/ip_vs, want IPVS (cat /proc/net/ip_vs)"),
            id="no-ipvs",
        ),
        pytest.param(
            {"host__links": NO_IPVS_LINKS},
            ("fail", "node-1: no device kube-ipvs0, want the one that holds the Services' addresses (ip link show kube-ipvs0)"),
            id="no-kube-ipvs0",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__vs__conntrack="0")},
            ("fail", "node-1: net.ipv4.vs.conntrack 0, want 1 (set by kube-proxy at its start) (sysctl net.ipv4.vs.conntrack)"),
            id="reset-after-start",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__vs__conntrack=None)},
            (
                "fail",
                "node-1: net.ipv4.vs.conntrack is not there, want 1 (set by kube-proxy at its start) (sysctl net.ipv4.vs.conntrack)",
            ),
            id="kernel-without-conntrack-for-ipvs",
        ),
        pytest.param(
            {"host__sysctls": {"net.ipv4.vs.conntrack": "1", "net.ipv4.vs.expire_nodest_conn": "1"}},
            ("error", "node-1: net.ipv4.vs.expire_quiescent_template was not measured"),
            id="not-measured",
        ),
        pytest.param({"ipvs__table": None}, ("error", "node-1: /proc/net/ip_vs was not read (cat /proc/net/ip_vs)"), id="table-not-read"),
    ],
)
def test_kernel_support(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(proxy.kernel_support(facts(**changes), IPVS)) == expected


ARP = "sysctl net.ipv4.conf.all.{0} net.ipv4.conf.eth0.{0}"


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, IPVS, ("pass", ""), id="all-sets-it"),
        pytest.param(
            {
                "host__sysctls": sysctls(
                    net__ipv4__conf__all__arp_ignore="0",
                    net__ipv4__conf__eth0__arp_ignore="1",
                    net__ipv4__conf__all__arp_announce="0",
                    net__ipv4__conf__eth0__arp_announce="2",
                )
            },
            IPVS,
            ("pass", ""),
            id="device-sets-it",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__conf__all__arp_ignore="0")},
            IPVS,
            ("fail", f"node-1: eth0 arp_ignore 0 in force, want 1 (strictARP, profile x.yaml:4) ({ARP.format('arp_ignore')})"),
            id="ignore-off",
        ),
        pytest.param(
            {"host__sysctls": sysctls(net__ipv4__conf__all__arp_announce="1")},
            IPVS,
            ("fail", f"node-1: eth0 arp_announce 1 in force, want 2 (strictARP, profile x.yaml:4) ({ARP.format('arp_announce')})"),
            id="announce-lower",
        ),
        pytest.param(
            {"host__sysctls": {"net.ipv4.conf.all.arp_ignore": "0", "net.ipv4.conf.all.arp_announce": "2"}},
            IPVS,
            ("error", "node-1: net.ipv4.conf.eth0.arp_ignore was not measured"),
            id="device-not-measured",
        ),
        pytest.param(
            {"host__sysctls": {"net.ipv4.conf.all.arp_announce": "2"}},
            IPVS,
            ("error", "node-1: net.ipv4.conf.all.arp_ignore was not measured"),
            id="not-measured",
        ),
        pytest.param({"uplink": None}, IPVS, ("error", "node-1: no device holds the node's InternalIP"), id="no-uplink"),
        pytest.param(
            {},
            ProxyExpectation(mode=IPVS.mode, strict_arp=Wanted(False, CLAIM)),
            ("skip", "strict ARP is neither claimed nor wanted"),
            id="claimed-off",
        ),
        pytest.param({}, ProxyExpectation(mode=IPVS.mode), ("skip", "strict ARP is neither claimed nor wanted"), id="nothing-wanted"),
    ],
)
def test_strict_arp(changes: dict[str, Any], expect: ProxyExpectation, expected: tuple[str, str]) -> None:
    assert outcome(proxy.strict_arp(facts(**changes), expect)) == expected


def test_a_vlan_uplink_is_asked_for_with_a_slash() -> None:
    node = facts(
        uplink="eth0.100",
        host__sysctls={
            "net.ipv4.conf.all.arp_ignore": "0",
            "net.ipv4.conf.all.arp_announce": "0",
            "net.ipv4.conf.eth0/100.arp_ignore": "1",
            "net.ipv4.conf.eth0/100.arp_announce": "2",
        },
    )
    assert outcome(proxy.strict_arp(node, IPVS)) == ("pass", "")


SERVICES = [
    {
        "metadata": {"namespace": "default", "name": "kubernetes"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]},
    },
    {
        "metadata": {"namespace": "kube-system", "name": "kube-dns"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "dns-tcp", "port": 53}]},
    },
]
SLICES = [
    {
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": 6443}],
        "endpoints": [{"addresses": ["192.168.10.1"], "conditions": {"ready": True}}],
    },
    {
        "metadata": {"namespace": "kube-system", "name": "kube-dns-x", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "ports": [{"name": "dns-tcp", "port": 53}],
        "endpoints": [{"addresses": ["10.244.1.5"]}, {"addresses": ["10.244.2.6"]}],
    },
]
HEALTHY_TABLE = TABLE.replace("C0A80A01:192B", "C0A80A01:192B")
WEIGHT_0 = TABLE.replace("0AF40105:0035      Masq    1", "0AF40105:0035      Masq    0")
STALE = TABLE.replace("0AF40206:0035", "0AF40207:0035")


def reading(table: str, second: int = 0, changed: list[str] | None = None) -> dict[str, Any]:
    return {
        "at": f"2026-11-24T03:{second // 60:02}:{second % 60:02}+00:00",
        "table": table,
        "services": SERVICES,
        "endpoint_slices": SLICES,
        "changed": changed or [],
    }


def ipvs(*readings: dict[str, Any], **changes: Any) -> Document:
    return document("ipvs", "node-1", {"loaded": True, "sync_period_s": 30.0, "kube_ipvs0": True, "readings": list(readings), **changes})


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param(ipvs(reading(HEALTHY_TABLE)), ("pass", ""), id="healthy"),
        pytest.param(ipvs(reading(STALE), reading(TABLE, 12)), ("pass", ""), id="healed-within-one-sync"),
        pytest.param(
            ipvs(reading(WEIGHT_0), reading(WEIGHT_0, 35)),
            (
                "fail",
                (
                    "node-1: TCP 10.96.0.10:53: real server 10.244.1.5:53 has weight 0, want 1 "
                    "(Service kube-system/kube-dns port dns-tcp), for 35 s (cat /proc/net/ip_vs)"
                ),
            ),
            id="weight-0",
        ),
        pytest.param(
            ipvs(reading(STALE), reading(STALE, 35)),
            (
                "fail",
                (
                    "node-1: TCP 10.96.0.10:53: no real server 10.244.2.6:53, an endpoint of Service kube-system/kube-dns port dns-tcp, "
                    "for 35 s (cat /proc/net/ip_vs)\n"
                    "node-1: TCP 10.96.0.10:53: real server 10.244.2.7:53 is no endpoint of Service kube-system/kube-dns port dns-tcp, "
                    "for 35 s (cat /proc/net/ip_vs)"
                ),
            ),
            id="stale-endpoint",
        ),
        pytest.param(
            ipvs(reading(WEIGHT_0)),
            (
                "inconclusive",
                (
                    "node-1: seen over 0 s only, kube-proxy has one sync period (30 s) to heal it: "
                    "TCP 10.96.0.10:53: real server 10.244.1.5:53 has weight 0, want 1 (Service kube-system/kube-dns port dns-tcp) "
                    "(cat /proc/net/ip_vs)"
                ),
            ),
            id="not-read-again",
        ),
        pytest.param(ipvs(loaded=False), ("error", "node-1: the IPVS table was not read (cat /proc/net/ip_vs)"), id="not-loaded"),
        pytest.param(ipvs(), ("error", "node-1: the IPVS table was not read (cat /proc/net/ip_vs)"), id="no-reading"),
    ],
)
def test_table_matches(record: Document, expected: tuple[str, str]) -> None:
    assert outcome(proxy.table_matches(record, facts(), IPVS, "192.168.10.11")) == expected


@pytest.mark.parametrize(("ranges", "verdict"), [(["192.168.10.250/32", "fd00::/64"], "pass"), ([], "fail"), (["10.9.0.0/16"], "fail")])
def test_virtual_servers_that_kube_proxy_leaves_alone(ranges: list[str], verdict: str) -> None:
    vip = "TCP  C0A80AFA:192B wlc\n  -> C0A80A01:192B      Masq    1      2          0\n"
    settings: dict[str, Any] = {"mode": "ipvs", "mode_error": None, "listening": True, "processes": []}
    node = facts(
        kube_proxy={**settings, "configz": {"kubeproxy.config.k8s.io": {"ipvs": {"excludeCIDRs": ranges}}}}, ipvs__table=TABLE + vip
    )
    record = ipvs(reading(TABLE + vip), reading(TABLE + vip, 35))
    assert outcome(proxy.table_matches(record, node, IPVS, "192.168.10.11"))[0] == verdict
    assert outcome(proxy.scheduler(node, IPVS))[0] == verdict


FRONTEND = {"address": "10.96.0.1", "port": 443, "protocol": "ANY", "affinity_s": None, "redirected": False, "lost_slots": 0}
MAPS = [
    {**FRONTEND, "backends": ["192.168.10.1:6443"]},
    {**FRONTEND, "address": "10.96.0.10", "port": 53, "backends": ["10.244.1.5:53", "10.244.2.6:53"]},
]


@pytest.mark.parametrize(("table", "verdict"), [(TABLE, "pass"), (STALE, "fail")], ids=["healthy", "stale-endpoint"])
@pytest.mark.parametrize("maps", [MAPS, MAPS[:1]], ids=["maps-that-are-right", "maps-without-a-frontend"])
def test_maps_of_cilium_beside_kube_proxy_are_not_its_table(maps: list[dict[str, Any]], table: str, verdict: str) -> None:
    """Cilium that replaces no kube-proxy keeps maps of ClusterIPs for pods' packets all the same."""
    record = ipvs(*({**reading(table, second), "cilium": maps} for second in (0, 35)))
    found = outcome(proxy.table_matches(record, facts(), IPVS, "192.168.10.11"))
    without = outcome(proxy.table_matches(ipvs(reading(table), reading(table, 35)), facts(), IPVS, "192.168.10.11"))
    assert (found, found[0]) == (without, verdict)


def test_what_changed_meanwhile_is_told_and_not_judged() -> None:
    changed = ["EndpointSlice kube-system/kube-dns-x"]
    judgement = proxy.table_matches(ipvs(reading(STALE, 0, changed), reading(STALE, 35, changed)), facts(), IPVS, "192.168.10.11")
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        "node-1: 1 objects changed during the reading and are not judged: EndpointSlice kube-system/kube-dns-x"
    ]


def test_a_difference_of_the_last_reading_alone_is_a_remark() -> None:
    judgement = proxy.table_matches(ipvs(reading(WEIGHT_0), reading(STALE, 35)), facts(), IPVS, "192.168.10.11")
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark")[0].startswith("node-1: younger than one sync period (30 s), not judged: TCP 10.96.0.10:53")


def test_many_differences_are_counted() -> None:
    ghosts = "".join(f"TCP  0A60{number:02X}63:0050 rr\n" for number in range(12))
    judgement = proxy.table_matches(ipvs(reading(TABLE + ghosts), reading(TABLE + ghosts, 35)), facts(), IPVS, "192.168.10.11")
    lines = judgement.message.splitlines()
    assert lines[0] == "node-1: TCP 10.96.0.99:80: no Service asks for this virtual server, for 35 s (cat /proc/net/ip_vs)"
    assert (len(lines), lines[-1]) == (11, "node-1: and 2 more differences (cat /proc/net/ip_vs)")


def test_a_node_without_address_is_an_error() -> None:
    judgement = proxy.table_matches(ipvs(reading(TABLE)), facts(), IPVS, None)
    assert outcome(judgement) == ("error", "node-1: the node has no InternalIP, so its NodePorts are not known")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (document("ipvs", "node-1", None, "node-1: agent died"), "node-1: no IPVS table: agent died"),
        (ipvs(reading("nonsense")), "not a table of /proc/net/ip_vs: it starts with 'nonsense'"),
        (document("ipvs", "node-1", {"loaded": True}), "node-1: the ipvs document is damaged: KeyError('sync_period_s')"),
    ],
)
def test_an_unusable_record_is_never_a_verdict(record: Document, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        proxy.table_matches(record, facts(), IPVS, "192.168.10.11")
    assert str(caught.value) == message


def test_the_table_of_nftables_mode_is_left_to_nodes_in_that_mode() -> None:
    """What is judged of it: test_nftables.py."""
    judgement = proxy.nft_table_matches(ipvs(reading(TABLE)), facts(), ProxyExpectation(), "192.168.10.11")
    assert outcome(judgement) == ("skip", "kube-proxy runs in mode ipvs here, not nftables")


# ---- configuration and syncs

SOURCE = "ConfigMap kube-system/kube-proxy config.conf"
CLAIMS = {
    "proxy.mode": Claim("ipvs", f"{SOURCE} mode"),
    "proxy.scheduler": Claim("rr", f"{SOURCE} ipvs.scheduler"),
    "proxy.strict_arp": Claim(True, f"{SOURCE} ipvs.strictARP"),
}
CONFIGZ = "(curl http://127.0.0.1:10249/configz)"
OLDER = "it was started before that, or has one of its own"


def running(mode: str = "ipvs", *, scheduler: str = "", strict_arp: bool = True, **more: Any) -> dict[str, Any]:
    configz = {"kubeproxy.config.k8s.io": {"mode": mode, "syncPeriod": "30s", "ipvs": {"scheduler": scheduler, "strictARP": strict_arp}}}
    return {"mode": mode, "mode_error": None, "listening": True, "processes": ["pid 812: kube-proxy"], "configz": configz, **more}


@pytest.mark.parametrize(
    ("kube_proxy", "claims", "expected"),
    [
        pytest.param(running(), CLAIMS, ("pass", ""), id="healthy"),
        pytest.param(
            {**running(), "configz": None},
            CLAIMS,
            (
                "error",
                (
                    f"node-1: kube-proxy does not tell its scheduler, its configuration says rr ({SOURCE} ipvs.scheduler) {CONFIGZ}\n"
                    f"node-1: kube-proxy does not tell its strictARP, its configuration says true ({SOURCE} ipvs.strictARP) {CONFIGZ}"
                ),
            ),
            id="tells-no-configuration",
        ),
        pytest.param(
            {**running(), "configz": None},
            {"proxy.mode": CLAIMS["proxy.mode"]},
            ("pass", ""),
            id="tells-no-configuration-of-which-more-than-the-mode-is-claimed",
        ),
        pytest.param(
            running("iptables"),
            CLAIMS,
            ("fail", f"node-1: kube-proxy runs with mode iptables, its configuration says ipvs ({SOURCE} mode): {OLDER} {CONFIGZ}"),
            id="mode",
        ),
        pytest.param(
            running(scheduler="lc"),
            CLAIMS,
            ("fail", f"node-1: kube-proxy runs with scheduler lc, its configuration says rr ({SOURCE} ipvs.scheduler): {OLDER} {CONFIGZ}"),
            id="scheduler",
        ),
        pytest.param(
            running(strict_arp=False),
            CLAIMS,
            (
                "fail",
                f"node-1: kube-proxy runs with strictARP false, its configuration says true ({SOURCE} ipvs.strictARP): {OLDER} {CONFIGZ}",
            ),
            id="strict-arp",
        ),
        pytest.param(running(), {}, ("skip", "the cluster does not say how kube-proxy should run"), id="no-claim"),
        pytest.param(
            running(),
            {"proxy.mode": Claim(None, "flags differ: x")},
            ("skip", "the cluster does not say how kube-proxy should run (flags differ: x)"),
            id="unknown",
        ),
        pytest.param(
            running(),
            {"proxy.mode": Claim("none", "DaemonSet x wants 0 pods")},
            ("skip", "no kube-proxy is claimed (DaemonSet x wants 0 pods): the absence checks judge that"),
            id="none",
        ),
        pytest.param(GONE, CLAIMS, ("skip", "kube-proxy does not tell how it runs: the mode's check judges that"), id="gone"),
    ],
)
def test_configuration_in_force(kube_proxy: dict[str, Any], claims: dict[str, Claim], expected: tuple[str, str]) -> None:
    assert outcome(proxy.configuration_in_force(facts(kube_proxy=kube_proxy), claims)) == expected


def test_configuration_of_kube_proxy_before_1_36() -> None:
    configz = {"kubeproxy.config.k8s.io": {"Mode": "ipvs", "IPVS": {"Scheduler": "lc", "StrictARP": True}}}
    assert outcome(proxy.configuration_in_force(facts(kube_proxy={**running(), "configz": configz}), CLAIMS))[0] == "fail"


def test_a_mode_that_is_not_written_is_advice() -> None:
    claims = {"proxy.mode": Claim("iptables", "x"), "proxy.mode_defaulted": Claim(True, f"{SOURCE} mode")}
    judgement = proxy.configuration_in_force(facts(kube_proxy=running("iptables")), claims)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "advice") == [
        (
            f"{SOURCE} mode is not set: kube-proxy's default, iptables today, becomes nftables in Kubernetes 1.40 (KEP-5343), "
            "and since 1.37 it warns of that; write the mode"
        )
    ]


def metrics(
    *, synced: float = 1000.0, queued: float = 990.0, at_s: float = 1200.0, livez: int | None = 200, **failures: float
) -> dict[str, Any]:
    values = {
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds": synced,
        'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"}': queued,
        "process_start_time_seconds": 10.0,
        **{f"kubeproxy_sync_proxy_rules_{name}": value for name, value in failures.items()},
    }
    return running(metrics=values, metrics_error=None, at_s=at_s, livez=livez)


def with_pod(**state: Any) -> Cluster:
    pods = [
        {"name": "kube-proxy-a", "node": "node-1", "static": False, "restarts": 0, "waiting": None, "last_end": None, **state},
        {"name": "kube-proxy-b", "node": "node-2", "static": False, "restarts": 9, "waiting": "CrashLoopBackOff", "last_end": None},
    ]
    item = {"name": "kube-proxy", "namespace": "kube-system", "desired": 2, "ready": 2, "node_selector": {}, "pods": pods}
    return Cluster("v1.37.2", (), {}, (item,), None)


METRICS = "(curl http://127.0.0.1:10249/metrics)"
END = "Error, exit status 1, at 2026-11-24T03:00:00Z"


@pytest.mark.parametrize(
    ("kube_proxy", "pod", "expected"),
    [
        pytest.param(metrics(), {}, ("pass", ""), id="healthy"),
        pytest.param(metrics(synced=1000.0, queued=1150.0), {}, ("pass", ""), id="a-sync-is-under-way"),
        pytest.param(
            metrics(synced=1000.0, queued=1100.0, iptables_restore_failures_total=7.0),
            {},
            (
                "fail",
                (
                    "node-1: a change has waited 100 s for kube-proxy to bring it into the kernel, want at most two sync periods (60 s); "
                    f"the last sync is 200 s ago, failures since its start: iptables_restore_failures_total 7 {METRICS}"
                ),
            ),
            id="syncs-fail",
        ),
        pytest.param(
            metrics(synced=1000.0, queued=1100.0, livez=503),
            {},
            (
                "fail",
                (
                    "node-1: a change has waited 100 s for kube-proxy to bring it into the kernel, want at most two sync periods (60 s); "
                    f"the last sync is 200 s ago {METRICS}"
                ),
            ),
            id="syncs-fail-and-it-says-so",
        ),
        pytest.param(
            metrics(synced=1000.0, queued=1190.0, livez=503, nftables_sync_failures_total=7.0),
            {},
            (
                "fail",
                (
                    "node-1: kube-proxy says itself that changes wait for longer than two sync periods to be brought into the kernel "
                    "(HTTP 503); the last sync is 200 s ago, failures since its start: nftables_sync_failures_total 7 "
                    "(curl http://127.0.0.1:10256/livez)"
                ),
            ),
            id="syncs-fail-and-changes-keep-coming",
        ),
        pytest.param(metrics(synced=1000.0, queued=1190.0, livez=404), {}, ("pass", ""), id="an-older-one-without-livez"),
        pytest.param(
            metrics(synced=0.0, queued=1100.0),
            {},
            (
                "fail",
                (
                    "node-1: a change has waited 100 s for kube-proxy to bring it into the kernel, want at most two sync periods (60 s); "
                    f"it has never synced {METRICS}"
                ),
            ),
            id="never-synced",
        ),
        pytest.param(
            running(metrics=None, metrics_error="HTTP 404", at_s=1.0),
            {},
            ("error", f"node-1: kube-proxy's metrics were not read: HTTP 404 {METRICS}"),
            id="no-metrics",
        ),
        pytest.param(
            running(metrics={}, metrics_error=None, at_s=1.0),
            {},
            ("error", f"node-1: kube-proxy's metrics do not tell when it synced {METRICS}"),
            id="other-metrics",
        ),
        pytest.param(
            {"mode": None, "mode_error": "timed out", "listening": True, "processes": ["pid 812: kube-proxy"]},
            {},
            ("error", f"node-1: kube-proxy's metrics were not read: it tells nothing (timed out) {METRICS}"),
            id="mute",
        ),
        pytest.param(
            GONE,
            {},
            ("error", f"node-1: kube-proxy's metrics were not read: it tells nothing (connection refused) {METRICS}"),
            id="no-process-of-a-pod-that-is-said-to-run",
        ),
        pytest.param(
            metrics(),
            {"waiting": "CrashLoopBackOff", "restarts": 5, "last_end": END},
            (
                "fail",
                (
                    f"node-1: pod kube-proxy-a does not run: CrashLoopBackOff, after 5 restarts (the last end: {END}) "
                    "(kubectl -n kube-system describe pod kube-proxy-a)"
                ),
            ),
            id="crash-loop",
        ),
    ],
)
def test_keeps_in_sync(kube_proxy: dict[str, Any], pod: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(proxy.keeps_in_sync(facts(kube_proxy=kube_proxy), with_pod(**pod), IPVS)) == expected


def test_failures_that_a_later_sync_made_good_and_restarts_are_remarks() -> None:
    kube_proxy = metrics(nftables_sync_failures_total=2.0, iptables_restore_failures_total=0.0)
    judgement = proxy.keeps_in_sync(facts(kube_proxy=kube_proxy), with_pod(restarts=3, last_end=END), IPVS)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        f"node-1: pod kube-proxy-a has restarted 3 times, the last end: {END}",
        "node-1: syncs of kube-proxy have failed since its start, and succeeded since: nftables_sync_failures_total 2",
    ]


def test_syncs_where_there_is_nothing_to_look_at() -> None:
    nobody = Cluster("v1.37.2", (), {}, (), None)
    unknown = ("skip", "neither kube-proxy's pod nor its metrics are known here")
    assert outcome(proxy.keeps_in_sync(facts(kube_proxy=running()), nobody, IPVS)) == unknown
    old = {"name": "kube-proxy", "pods": [{"name": "kube-proxy-a", "node": "node-1", "static": False}]}
    assert outcome(proxy.keeps_in_sync(facts(kube_proxy=running()), Cluster("v1.37.2", (), {}, (old,), None), IPVS)) == unknown
    gone = ("skip", "kube-proxy does not run here: the mode's check judges that")
    assert outcome(proxy.keeps_in_sync(facts(kube_proxy=GONE), nobody, IPVS)) == gone
    assert outcome(proxy.keeps_in_sync(facts(), nobody, NONE)) == ("skip", NO_PROXY_WANTED)


def test_each_address_family_is_synced_by_itself() -> None:
    series = {
        f'kubeproxy_sync_proxy_rules_last_{name}timestamp_seconds{{ip_family="{family}"}}': value
        for (name, family), value in {
            ("", "IPv4"): 1190.0,
            ("queued_", "IPv4"): 1180.0,
            ("", "IPv6"): 900.0,
            ("queued_", "IPv6"): 1000.0,
        }.items()
    }
    judgement = proxy.keeps_in_sync(facts(kube_proxy=running(metrics=series, metrics_error=None, at_s=1200.0)), with_pod(), IPVS)
    assert outcome(judgement) == (
        "fail",
        (
            "node-1: a change has waited 200 s for kube-proxy to bring it into the kernel, want at most two sync periods (60 s); "
            f"the last sync is 300 s ago {METRICS}"
        ),
    )
    only_synced = {"kubeproxy_sync_proxy_rules_last_timestamp_seconds": 1190.0}
    judgement = proxy.keeps_in_sync(facts(kube_proxy=running(metrics=only_synced, metrics_error=None, at_s=1200.0)), with_pod(), IPVS)
    assert outcome(judgement) == ("pass", "")
