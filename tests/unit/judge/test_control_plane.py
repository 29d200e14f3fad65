from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import dual_stack as with_ipv6
from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.admission import Webhook
from pytest_k8snet.cluster.model import Claim, Cluster, Node
from pytest_k8snet.cluster.ranges import Range
from pytest_k8snet.judge import control_plane
from tests.unit.judge.builder import SYSCTLS, facts, outcome, told

PODS = Range("pods", "10.244.0.0/16", "pod kube-system/kcm --cluster-cidr")
SERVICES = Range("services", "10.96.0.0/12", "ServiceCIDR kubernetes")
NODES = tuple(fake_node(f"node-{number}", number) for number in (1, 2, 3))  # 192.168.10.11, 10.244.1.0/24, ...
BY_IPV6 = tuple(
    replace(node, internal_ip=f"fd00:1::1{number}", pod_cidrs=(f"fd00:2:0:{number}::/64",))
    for number, node in zip((0, 1, 3), NODES, strict=True)
)
OLD = ("skip", "the record is of a version that did not read this")


def cluster(
    *, nodes: tuple[Node, ...] = NODES, ranges: tuple[Range, ...] | None = (PODS, SERVICES), cni: str | None = "flannel"
) -> Cluster:
    return Cluster("v1.37.2", nodes, {"encapsulation": Claim("none", "x")}, (), cni, mistakes=(), ranges=ranges)


def test_records_of_earlier_versions() -> None:
    old = Cluster("v1.37.2", NODES, {}, (), "flannel")
    for judgement in (control_plane.objects(old), control_plane.ranges(old), control_plane.stale_routes(facts(), old)):
        assert outcome(judgement) == OLD
        assert judgement.unsupported


def test_objects() -> None:
    judgement = control_plane.objects(cluster())
    assert (outcome(judgement), judgement.findings) == (("pass", ""), [])
    assert judgement.evidence == {"claims": {"encapsulation": "none (x)"}}
    judgement = control_plane.objects(replace(cluster(), mistakes=("ConfigMap a is b, which is no value of it; valid: c", "another")))
    assert outcome(judgement) == ("fail", "ConfigMap a is b, which is no value of it; valid: c\nanother")


def test_what_is_not_known_is_a_remark() -> None:
    judgement = control_plane.objects(replace(cluster(cni=None), unreadable={"IPPool": "HTTP 403"}))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        "the CNI is none that is known here: only a profile can say what is wanted of encapsulation and MTU",
        "IPPool could not be read, nothing is claimed from it: HTTP 403",
    ]


@pytest.mark.parametrize("unreadable", [{}, {"IPPool": "HTTP 403"}])
def test_no_object_read_is_no_object_that_is_right(unreadable: dict[str, str]) -> None:
    silent = replace(cluster(), claims={}, unreadable=unreadable)
    judgement = control_plane.objects(silent)
    assert outcome(judgement) == ("skip", "no object was read that says anything of the network")
    assert judgement.unsupported is bool(unreadable)
    assert outcome(control_plane.objects(replace(silent, mistakes=("ConfigMap a is b",)))) == ("fail", "ConfigMap a is b")


def at(node: Node, *, ip: str | None = None, cidr: str | None = None) -> Node:
    return replace(node, internal_ip=ip or node.internal_ip, pod_cidrs=(cidr,) if cidr else node.pod_cidrs)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, ("pass", ""), id="healthy"),
        pytest.param(
            {"ranges": (replace(PODS, cidr="10.100.0.0/16"), SERVICES), "nodes": ()},
            (
                "fail",
                (
                    "the Services' range 10.96.0.0/12 (ServiceCIDR kubernetes) overlaps the pods' range 10.100.0.0/16 "
                    "(pod kube-system/kcm --cluster-cidr)"
                ),
            ),
            id="services-and-pods",
        ),
        pytest.param(
            {"ranges": (SERVICES,), "nodes": (at(NODES[0], cidr="10.97.0.0/24"), NODES[1])},
            (
                "fail",
                "the Services' range 10.96.0.0/12 (ServiceCIDR kubernetes) overlaps the pods' range 10.97.0.0/24 (Node node-1)",
            ),
            id="services-and-a-node-s-pods",
        ),
        pytest.param(
            {"nodes": (NODES[0], NODES[1], at(NODES[2], cidr="10.244.2.0/25"))},
            ("fail", "the pod ranges 10.244.2.0/24 (Node node-2) and 10.244.2.0/25 (Node node-3) overlap: two pods may have one address"),
            id="two-nodes",
        ),
        pytest.param(
            {"nodes": (at(NODES[0], ip="10.244.9.9"), NODES[1])},
            ("fail", "the address 10.244.9.9 of Node node-1 is within the pods' range 10.244.0.0/16 (pod kube-system/kcm --cluster-cidr)"),
            id="node-among-pods",
        ),
        pytest.param(
            {"nodes": (at(NODES[0], ip="10.96.0.1"), NODES[1])},
            ("fail", "the address 10.96.0.1 of Node node-1 is within the Services' range 10.96.0.0/12 (ServiceCIDR kubernetes)"),
            id="node-among-services",
        ),
        pytest.param(
            {"ranges": (PODS,), "nodes": tuple(replace(at(node, ip="10.244.9.9"), pod_cidrs=()) for node in NODES[:1])},
            ("fail", "the address 10.244.9.9 of Node node-1 is within the pods' range 10.244.0.0/16 (pod kube-system/kcm --cluster-cidr)"),
            id="node-among-pods-with-one-range-told",
        ),
        pytest.param(
            {"ranges": (PODS,), "nodes": ()}, ("skip", "no object tells the ranges of pods or Services"), id="nothing-to-compare-with"
        ),
        pytest.param(
            {"ranges": (), "nodes": tuple(replace(node, pod_cidrs=()) for node in NODES)},
            ("skip", "no object tells the ranges of pods or Services"),
            id="nothing-told",
        ),
    ],
)
def test_ranges(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(control_plane.ranges(cluster(**changes))) == expected


def test_services_of_which_the_range_is_not_known() -> None:
    judgement = control_plane.ranges(cluster(ranges=(PODS,)))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["the Services' range is not known: no ServiceCIDR and no control plane's flags could be read"]


def test_a_thousand_nodes_are_compared_with_their_neighbours() -> None:
    cidrs = [f"10.{number // 256}.{number % 256}.0/24" for number in range(2000)]
    nodes = tuple(replace(fake_node(cidr), internal_ip=None, pod_cidrs=(cidr,)) for cidr in cidrs)
    judgement = control_plane.ranges(cluster(nodes=nodes, ranges=()))
    assert (outcome(judgement), judgement.checked) == (("pass", ""), 2000)


SMALL = replace(NODES[0], pod_cidrs=("10.244.1.0/28", "fd00::/64"), max_pods=110)  # 13 addresses


@pytest.mark.parametrize(
    ("node", "running", "cni", "expected"),
    [
        pytest.param(NODES[0], 20, "flannel", ("pass", ""), id="healthy"),
        pytest.param(
            SMALL,
            12,
            "flannel",
            (
                "fail",
                (
                    "node-1: 13 pods have addresses of 10.244.1.0/28, which has 13: the next pod gets none "
                    "(kubectl get pods -A --field-selector spec.nodeName=node-1)"
                ),
            ),
            id="full",
        ),
        pytest.param(SMALL, 12, "calico", ("skip", "under calico pods' addresses are not of the range of their Node object"), id="calico"),
        pytest.param(
            SMALL, 12, None, ("skip", "under an unknown CNI pods' addresses are not of the range of their Node object"), id="unknown"
        ),
        pytest.param(replace(SMALL, pod_cidrs=()), 12, "flannel", ("skip", "the node has no range of pods"), id="no-range"),
        pytest.param(
            replace(SMALL, pod_cidrs=("10.244.1.0/24", "fd00::/124"), max_pods=None),
            12,
            "flannel",
            (
                "fail",
                (
                    "node-1: 13 pods have addresses of fd00::/124, which has 13: the next pod gets none "
                    "(kubectl get pods -A --field-selector spec.nodeName=node-1)"
                ),
            ),
            id="full-of-ipv6",
        ),
    ],
)
def test_pod_room(node: Node, running: int, cni: str | None, expected: tuple[str, str]) -> None:
    assert outcome(control_plane.pod_room(facts(existing_pods_running=running), node, cluster(cni=cni))) == expected


def test_a_range_that_is_smaller_than_the_kubelet_s_pods_and_nearly_full() -> None:
    judgement = control_plane.pod_room(facts(existing_pods_running=10), SMALL, cluster())
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "advice") == ["node-1: the kubelet takes 110 pods, and 10.244.1.0/28 has addresses for 13"]
    assert told(judgement, "remark") == ["node-1: 11 of 13 addresses of 10.244.1.0/28 are in use"]


def test_pods_that_were_not_counted() -> None:
    judgement = control_plane.pod_room(facts(errors={"existing_pods": "nsenter: not on the node"}), SMALL, cluster())
    assert outcome(judgement) == ("error", "node-1: the pods of the node were not counted: nsenter: not on the node")


KEY = "net.ipv4.neigh.default.gc_thresh3"


def table(limit: str, entries: int | None = 9, fulls: int = 0) -> dict[str, Any]:
    neighbours = {} if entries is None else {"entries": entries, "table_fulls": fulls}
    return {"host__sysctls": {**SYSCTLS, KEY: limit}, "neighbours": neighbours, "existing_pods_running": 30, "host__routes": ON_LINK}


ON_LINK = [{"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"}, {"dst": "192.168.10.0/24", "dev": "eth0"}]
ROUTED = {"host__routes": [{"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"}]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(table("1024"), ("pass", ""), id="healthy"),
        pytest.param(
            table("32"),
            (
                "fail",
                f"node-1: {KEY} 32, want more than 32: 2 other nodes on the same link and 30 pods are neighbours (sysctl {KEY})",
            ),
            id="too-small",
        ),
        pytest.param(table("32") | ROUTED, ("pass", ""), id="nodes-behind-routers"),
        pytest.param(
            table("1024", 1024, 3),
            (
                "fail",
                (
                    "node-1: the neighbour table has 1024 entries, 1024 is the most, and it has been full 3 times since the node started "
                    "(ip -4 neigh)"
                ),
            ),
            id="full",
        ),
        pytest.param(table("1024", 1100), ("pass", ""), id="entries-that-do-not-count"),
        pytest.param(table("1024", None), ("pass", ""), id="no-counters"),
        pytest.param({}, ("skip", f"{KEY} was not read"), id="not-read"),
    ],
)
def test_neighbour_room(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(control_plane.neighbour_room(facts(**changes), cluster())) == expected


KEY6 = "net.ipv6.neigh.default.gc_thresh3"
BOTH_FAMILIES = cluster(nodes=tuple(map(with_ipv6, NODES)))


def tables(limit4: str, limit6: str, table6: dict[str, int] | None = None) -> dict[str, Any]:
    given = table(limit4)
    given["host__sysctls"] = {**given["host__sysctls"], KEY6: limit6}
    given["host__routes"] = [*ON_LINK, {"dst": "fd00:192:168::/64", "dev": "eth0"}]
    return {**given, "neighbours_ipv6": table6 or {"entries": 4, "table_fulls": 0}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(tables("33", "33"), ("pass", ""), id="each-node-counts-once-of-each-family"),
        pytest.param(
            tables("1024", "32"),
            (
                "fail",
                f"node-1: {KEY6} 32, want more than 32: 2 other nodes on the same link and 30 pods are neighbours (sysctl {KEY6})",
            ),
            id="too-small-for-ipv6",
        ),
        pytest.param(
            tables("1024", "1024", {"entries": 1024, "table_fulls": 3}),
            (
                "fail",
                (
                    "node-1: the neighbour table of IPv6 has 1024 entries, 1024 is the most, and it has been full 3 times since the node "
                    "started (ip -6 neigh)"
                ),
            ),
            id="full-of-ipv6",
        ),
        pytest.param(table("1024"), ("pass", ""), id="ipv6-not-read-in-an-older-recording"),
    ],
)
def test_neighbour_room_of_both_families(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(control_plane.neighbour_room(facts(**changes), BOTH_FAMILIES)) == expected


def test_a_limit_of_one_family_that_was_not_read_is_told() -> None:
    changes = tables("1024", "1024")
    del changes["host__sysctls"][KEY6]
    judgement = control_plane.neighbour_room(facts(**changes), BOTH_FAMILIES)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [f"node-1: {KEY6} was not read: the neighbours of that family are not judged"]


def test_pods_that_were_not_counted_are_told_beside_the_room_for_neighbours() -> None:
    judgement = control_plane.neighbour_room(facts(**table("1024"), errors={"existing_pods": "no ps"}), cluster())
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["node-1: its pods were not counted and are taken for none: no ps"]


def test_an_ipv6_table_that_was_full_is_a_remark() -> None:
    judgement = control_plane.neighbour_room(facts(**tables("1024", "1024", {"entries": 900, "table_fulls": 7})), BOTH_FAMILIES)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        "node-1: 900 neighbours of IPv6 are known, of at most 1024 that are not permanent",
        "node-1: the neighbour table of IPv6 has been full 7 times since the node started",
    ]


def test_a_table_that_fills_up_or_was_full_is_a_remark() -> None:
    judgement = control_plane.neighbour_room(facts(**table("1024", 900, 7)), cluster())
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        "node-1: 900 neighbours are known, of at most 1024 that are not permanent",
        "node-1: the neighbour table has been full 7 times since the node started",
    ]


def routes(*given: tuple[str, str | None, str], total: int = 0) -> dict[str, Any]:
    found = [{"dst": dst, "dev": dev, **({} if gateway is None else {"gateway": gateway})} for dst, gateway, dev in given]
    return {"host__routes": found, **({"host__routes_total": total} if total else {})}


USUAL = (
    ("default", "192.168.10.1", "eth0"),
    ("10.244.1.0/24", None, "cni0"),
    ("10.244.2.0/24", "192.168.10.12", "eth0"),
    ("10.244.3.0/24", "10.244.3.0", "flannel.1"),
    ("172.16.0.0/16", "192.168.10.99", "eth0"),
)
GONE = ("10.244.7.0/24", "192.168.10.17", "eth0")


@pytest.mark.parametrize(
    ("changes", "of", "expected"),
    [
        pytest.param(routes(*USUAL), {}, ("pass", ""), id="healthy"),
        pytest.param(
            routes(*USUAL, GONE),
            {},
            (
                "fail",
                (
                    "node-1: route 10.244.7.0/24 via 192.168.10.17 dev eth0, which is the pod range of no node: left over from one that "
                    "is gone (ip route)"
                ),
            ),
            id="gone",
        ),
        pytest.param(routes(*USUAL, GONE), {"ranges": ()}, ("pass", ""), id="outside-what-nodes-span"),
        pytest.param(
            routes(*USUAL, ("10.244.7.0/24", "10.244.7.0", "flannel.1")),
            {"ranges": ()},
            (
                "fail",
                (
                    "node-1: route 10.244.7.0/24 via 10.244.7.0 dev flannel.1, which is the pod range of no node: left over from one that "
                    "is gone (ip route)"
                ),
            ),
            id="outside-what-nodes-span-by-their-overlay",
        ),
        pytest.param(routes(*USUAL, ("10.244.7.0/24", "10.244.7.1", "vxlan9")), {"ranges": ()}, ("pass", ""), id="by-anothers-overlay"),
        pytest.param(routes(*USUAL, ("10.244.7.0/24", "10.9.0.7", "flannel.1")), {"ranges": ()}, ("pass", ""), id="by-a-router-behind-it"),
        pytest.param(
            routes(*USUAL, ("10.0.0.0/8", "10.1.1.1", "flannel.1")), {"ranges": ()}, ("pass", ""), id="by-a-router-of-a-large-net"
        ),
        pytest.param(routes(*USUAL, ("10.244.7.0/24", "10.244.7.1", "eth0")), {"ranges": ()}, ("pass", ""), id="by-a-router-on-the-link"),
        pytest.param(routes(*USUAL, ("10.244.0.0/25", "192.168.10.17", "eth0")), {"ranges": ()}, ("pass", ""), id="of-another-size"),
        pytest.param(routes(*USUAL, ("10.244.0.0/24", "192.168.20.17", "eth1")), {"ranges": ()}, ("pass", ""), id="by-another-device"),
        pytest.param(
            routes(("fd00:2::/64", "fd00:1::12", "eth0"), ("fd00:2:0:2::/64", "fd00:1::17", "eth0")),
            {"ranges": (), "nodes": BY_IPV6},
            (
                "fail",
                (
                    "node-1: route fd00:2:0:2::/64 via fd00:1::17 dev eth0, which is the pod range of no node: left over from one that "
                    "is gone (ip route)"
                ),
            ),
            id="gone-of-ipv6",
        ),
        pytest.param(
            routes(*USUAL, ("10.244.0.0/24", "192.168.10.17", "eth0")),
            {"ranges": ()},
            (
                "fail",
                (
                    "node-1: route 10.244.0.0/24 via 192.168.10.17 dev eth0, which is the pod range of no node: left over from one that "
                    "is gone (ip route)"
                ),
            ),
            id="within-what-nodes-span",
        ),
        pytest.param(
            routes(("10.244.99.64/26", "192.168.10.12", "eth0"), ("10.244.99.0/26", "192.168.10.17", "eth0")),
            {"cni": "calico"},
            (
                "fail",
                (
                    "node-1: route 10.244.99.0/26 via 192.168.10.17 dev eth0, which is no node's address: left over from one that is gone "
                    "(ip route)"
                ),
            ),
            id="calico",
        ),
        pytest.param(routes(*USUAL), {"cni": "calico", "ranges": ()}, ("skip", "no object tells the pods' range"), id="no-range"),
    ],
)
def test_stale_routes(changes: dict[str, Any], of: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(control_plane.stale_routes(facts(**changes), cluster(**of))) == expected


def test_many_stale_routes_are_counted_and_what_was_not_looked_at_is_told() -> None:
    many = [(f"10.244.{number}.0/24", "192.168.10.17", "eth0") for number in range(10, 20)]
    judgement = control_plane.stale_routes(facts(**routes(*many, total=400)), cluster())
    assert len(told(judgement, "fault")) == 6
    assert told(judgement, "fault")[-1] == "node-1: and 5 more"
    assert told(judgement, "remark") == ["node-1: 10 of 400 routes were looked at"]


NFT = {"tables": ["nat", "filter"], "chains": ["KUBE-FORWARD", "KUBE-SERVICES"], "reachable": ["KUBE-SERVICES"]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, ("pass", ""), id="healthy"),
        pytest.param(
            {"iptables__nft": NFT},
            (
                "fail",
                (
                    "node-1: chains of Kubernetes are in force in both iptables back ends (legacy: KUBE-SERVICES; nft: KUBE-SERVICES): "
                    "every packet goes through both, and each tool shows one of them (iptables-legacy-save; iptables-nft-save)"
                ),
            ),
            id="both",
        ),
        pytest.param(
            {"iptables__nft": {**NFT, "error": "no iptables-nft-save"}},
            ("error", "node-1: iptables-nft was not read: no iptables-nft-save (iptables-nft-save)"),
            id="not-read",
        ),
    ],
)
def test_iptables_back_ends(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(control_plane.iptables_back_ends(facts(**changes))) == expected


def test_tables_of_others_in_the_other_back_end_are_a_remark() -> None:
    judgement = control_plane.iptables_back_ends(facts(iptables__nft={"tables": ["filter"], "chains": [], "reachable": []}))
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == ["node-1: both iptables back ends have tables (legacy, nft), one of them Kubernetes'"]


POLICY = Webhook("a.policy", "ValidatingWebhookConfiguration policy", True, True, "policy/hook", 2)


@pytest.mark.parametrize(
    ("webhooks", "unreadable", "expected"),
    [
        pytest.param((POLICY,), {}, ("pass", ""), id="healthy"),
        pytest.param(
            (replace(POLICY, fail=False, ready=None), replace(POLICY, service=None, ready=None)), {}, ("pass", ""), id="not-judged"
        ),
        pytest.param(
            (replace(POLICY, ready=0),),
            {},
            (
                "fail",
                (
                    "ValidatingWebhookConfiguration policy: a.policy is asked about every new pod and refuses them while nobody answers, "
                    "and Service policy/hook has no ready endpoint (kubectl -n policy get endpointslices)"
                ),
            ),
            id="nobody-answers",
        ),
        pytest.param((), {}, ("skip", "no admission webhook is asked about pods"), id="none"),
        pytest.param(
            (),
            {"MutatingWebhookConfiguration": "HTTP 403"},
            ("skip", "admission webhooks are not readable: HTTP 403"),
            id="not-readable",
        ),
        pytest.param(None, {}, OLD, id="earlier-version"),
    ],
)
def test_webhooks(webhooks: tuple[Webhook, ...] | None, unreadable: dict[str, str], expected: tuple[str, str]) -> None:
    found = replace(cluster(), webhooks=webhooks, unreadable=unreadable)
    assert outcome(control_plane.webhooks(found)) == expected


def test_a_webhook_of_which_the_endpoints_are_not_known_is_a_remark() -> None:
    unknown = replace(POLICY, ready=None)
    remark = "ValidatingWebhookConfiguration policy: whether policy/hook, which a.policy asks about pods, has endpoints is not known"
    judgement = control_plane.webhooks(replace(cluster(), webhooks=(unknown, POLICY)))
    assert (outcome(judgement), told(judgement, "remark")) == (("pass", ""), [remark])
    judgement = control_plane.webhooks(replace(cluster(), webhooks=(unknown,)))
    assert outcome(judgement) == ("skip", "whether webhooks that refuse pods have endpoints could not be read")
    assert (judgement.unsupported, told(judgement, "remark")) == (True, [remark])
