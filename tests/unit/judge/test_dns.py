from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import COREFILE, fake_node, healthy_dns
from pytest_k8snet.cluster.dns import Dns, DnsServer, NodeLocal, parse_corefile
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.expect.model import DnsExpectation, Wanted
from pytest_k8snet.judge import dns
from pytest_k8snet.judge.model import Judgement
from tests.unit.judge.builder import facts, network, outcome, told

NODES = ("node-1", "node-2", "node-3")
TWO = DnsExpectation(replicas=Wanted(2, "profile x.yaml:7"))
PODS = "(kubectl -n kube-system get pods -l k8s-app=kube-dns -o wide)"
SOURCE = "ConfigMap kube-system/coredns Corefile"
LOCAL = NodeLocal("kube-system/node-local-dns", 3, 3, ("169.254.20.10",))
OLD = ("skip", "the record is of a version that did not read the cluster's DNS")


def cluster(found: Dns | None = None, *, nodes: tuple[str, ...] = NODES, **changes: Any) -> Cluster:
    found = replace(found or healthy_dns(NODES), **changes)
    return Cluster("v1.37.2", tuple(map(fake_node, nodes)), {}, (), None, dns=found)


def on(*nodes: str, ready: bool = True) -> tuple[DnsServer, ...]:
    return tuple(DnsServer(f"coredns-{number}", node, ready) for number, node in enumerate(nodes, 1))


def test_records_of_earlier_versions() -> None:
    old = Cluster("v1.37.2", (), {}, (), None)
    for judgement in (dns.servers(old, TWO), dns.corefile(old), dns.resolver(facts(), old)):
        assert outcome(judgement) == OLD
        assert judgement.unsupported


ONE_NODE = "all 2 pods of CoreDNS are on node-1: when it goes, DNS of 3 nodes does"


@pytest.mark.parametrize(
    ("changes", "expect", "expected"),
    [
        pytest.param({}, TWO, ("pass", ""), id="healthy"),
        pytest.param(
            {"servers": ()},
            TWO,
            ("skip", "no pod of kube-system has the label k8s-app=kube-dns: DNS is somebody else's here"),
            id="none",
        ),
        pytest.param(
            {"servers": (*on("node-1", "node-2"), DnsServer("coredns-3", "node-3", False))},
            TWO,
            ("fail", f"pod coredns-3 on node-3 is not ready {PODS}"),
            id="not-ready",
        ),
        pytest.param(
            {"servers": (*on("node-1", "node-2"), DnsServer("coredns-3", None, False))},
            DnsExpectation(),
            ("fail", f"pod coredns-3 on no node is not ready {PODS}"),
            id="pending",
        ),
        pytest.param(
            {"servers": on("node-1")}, TWO, ("fail", f"1 of 1 pods of CoreDNS are ready, want 2 (profile x.yaml:7) {PODS}"), id="too-few"
        ),
        pytest.param({"servers": on("node-1", "node-1")}, TWO, ("fail", f"{ONE_NODE} {PODS}"), id="one-node"),
        pytest.param(
            {"node_local": replace(LOCAL, ready=2)},
            TWO,
            (
                "fail",
                (
                    "NodeLocal DNSCache is ready on 2 of 3 nodes (DaemonSet kube-system/node-local-dns) "
                    "(kubectl -n kube-system get daemonset node-local-dns)"
                ),
            ),
            id="node-local",
        ),
        pytest.param(
            {"node_local": replace(LOCAL, desired=4, ready=2)},
            TWO,
            (
                "fail",
                (
                    "NodeLocal DNSCache is ready on 2 of 4 nodes (DaemonSet kube-system/node-local-dns) "
                    "(kubectl -n kube-system get daemonset node-local-dns)"
                ),
            ),
            id="node-local-missing-on-one-node",
        ),
    ],
)
def test_servers(changes: dict[str, Any], expect: DnsExpectation, expected: tuple[str, str]) -> None:
    assert outcome(dns.servers(cluster(**changes), expect)) == expected


def test_what_is_on_a_node_that_is_not_ready_is_that_node_s_matter() -> None:
    found = cluster(
        servers=(*on("node-1", "node-2"), DnsServer("coredns-3", "node-3", False)), node_local=replace(LOCAL, desired=3, ready=2)
    )
    found = replace(found, nodes=tuple(replace(node, ready=node.name != "node-3") for node in found.nodes))
    judgement = dns.servers(found, TWO)
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [
        "pod coredns-3 on node-3 is not ready, as its node is not Ready",
        "NodeLocal DNSCache is ready on 2 of 3 nodes (DaemonSet kube-system/node-local-dns), and 1 node is not Ready",
    ]
    few = dns.servers(replace(found, dns=replace(found.dns or healthy_dns(NODES), servers=(DnsServer("a", "node-3", False),))), TWO)
    assert outcome(few) == (
        "fail",
        f"pod a on node-3 is not ready {PODS}\n0 of 1 pods of CoreDNS are ready, want 2 (profile x.yaml:7) {PODS}",
    )


@pytest.mark.parametrize(
    ("servers", "advice"),
    [
        (on("node-1"), ["1 of 1 pods of CoreDNS are ready, want 2 (advised)"]),
        (on("node-1", "node-1"), [ONE_NODE]),
        (on("node-1", "node-2"), []),
    ],
)
def test_without_a_wish_few_servers_are_advice(servers: tuple[DnsServer, ...], advice: list[str]) -> None:
    judgement = dns.servers(cluster(servers=servers), DnsExpectation())
    assert (outcome(judgement), told(judgement, "advice")) == (("pass", ""), advice)


def test_a_cluster_of_one_node_has_nothing_to_spread_over() -> None:
    judgement = dns.servers(cluster(servers=on("node-1", "node-1"), nodes=("node-1",)), TWO)
    assert (outcome(judgement), judgement.findings) == (("pass", ""), [])


def of(text: str, **changes: Any) -> Judgement:
    return dns.corefile(cluster(blocks=tuple(parse_corefile(text)), **changes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(COREFILE, ("pass", ""), id="healthy"),
        pytest.param(
            COREFILE.replace("    kubernetes", "    hosts"),
            (
                "fail",
                (
                    f"{SOURCE}: no server block has the plugin kubernetes: nobody answers the cluster's names\n"
                    f"{SOURCE}: autopath @kubernetes has no effect without `pods verified` of the plugin kubernetes"
                ),
            ),
            id="no-kubernetes",
        ),
        pytest.param(
            COREFILE.replace("verified", "insecure"),
            ("fail", f"{SOURCE}: autopath @kubernetes has no effect without `pods verified` of the plugin kubernetes"),
            id="autopath",
        ),
        pytest.param(
            COREFILE.replace("/etc/resolv.conf", "10.96.0.10:53"),
            (
                "fail",
                f"{SOURCE}: it forwards to 10.96.0.10:53, its own Service kube-system/kube-dns: questions go round in a loop",
            ),
            id="loop",
        ),
        pytest.param(
            "(names) {\n kubernetes cluster.local\n}\n"
            + COREFILE.replace("    kubernetes", "    import names\n    hosts").replace("autopath", "#"),
            ("pass", ""),
            id="what-is-imported-is-not-known",
        ),
    ],
)
def test_corefile(text: str, expected: tuple[str, str]) -> None:
    assert outcome(of(text)) == expected


def test_corefile_that_does_not_parse() -> None:
    assert outcome(of("", damaged="line 3: a brace does not close")) == (
        "fail",
        f"{SOURCE}: line 3: a brace does not close: CoreDNS does not start with it",
    )


def test_what_a_corefile_had_better_have() -> None:
    judgement = of(".:53 {\n    kubernetes cluster.local\n    forward . /etc/resolv.conf\n}\n")
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "advice") == [
        (
            f"{SOURCE}: it forwards to what /etc/resolv.conf of the node says and has no plugin loop: a node whose resolver asks the "
            "cluster goes round in a loop unnoticed"
        ),
        f"{SOURCE}: no cache: every question of every pod goes to the API's data or upstream",
        f"{SOURCE}: no plugin ready: pods get questions before they know the Services",
    ]
    judgement = of(COREFILE.replace("forward", "# forward"))
    assert told(judgement, "remark") == [f"{SOURCE}: nothing is forwarded: names outside the cluster are not resolved"]
    judgement = of(COREFILE.replace(".:53", "cluster.local"))
    assert told(judgement, "remark") == [f"{SOURCE}: no server block for zone .: names outside the cluster are not resolved"]


def test_corefile_that_is_not_there_or_not_readable() -> None:
    assert outcome(dns.corefile(cluster(corefile=None))) == (
        "skip",
        "kube-system has no ConfigMap with a Corefile: DNS is somebody else's here",
    )
    judgement = dns.corefile(cluster(corefile=None, unreadable={"ConfigMap kube-system/coredns": "HTTP 403"}))
    assert (outcome(judgement), judgement.unsupported) == (("skip", "the Corefile is not readable: HTTP 403"), True)


def pods(**resolv: Any) -> list[dict[str, Any]]:
    given = {"nameservers": ["10.96.0.10"], "search": ["x.svc.cluster.local", "svc.cluster.local", "cluster.local"], "ndots": 5, **resolv}
    own = {"nameservers": ["192.0.2.1"], "search": ["example.org"], "ndots": 1}
    return [
        {"name": "kube-system/coredns-abc", **network(), "resolv": own},
        {"name": "default/web-1", **network(), "resolv": given},
    ]


CAT = "(kubectl exec web-1 -- cat /etc/resolv.conf)"


@pytest.mark.parametrize(
    ("existing", "changes", "expected"),
    [
        pytest.param(pods(), {}, ("pass", ""), id="healthy"),
        pytest.param(pods(nameservers=["169.254.20.10"]), {"node_local": LOCAL}, ("pass", ""), id="node-local"),
        pytest.param(
            pods(nameservers=["169.254.20.10"]),
            {},
            ("fail", f"node-1: default/web-1 asks 169.254.20.10, want 10.96.0.10 (Service kube-system/kube-dns) {CAT}"),
            id="node-local-that-is-not-there",
        ),
        pytest.param(
            pods(nameservers=[]),
            {"node_local": LOCAL},
            ("fail", f"node-1: default/web-1 asks nobody, want 10.96.0.10 (Service kube-system/kube-dns) or NodeLocal DNSCache {CAT}"),
            id="nobody",
        ),
        pytest.param(
            pods(nameservers=["fd00:10:96:0::a"]),
            {"addresses": ("10.96.0.10", "fd00:10:96::a")},
            ("pass", ""),
            id="as-the-kubelet-s-configuration-writes-it",
        ),
        pytest.param(pods(nameservers=["169.254.10.11"]), {}, ("pass", ""), id="local-dns-of-aks"),
        pytest.param(pods(nameservers=["10.96.0.10", "192.0.2.53"]), {}, ("pass", ""), id="one-more-that-its-own-dnsconfig-names"),
        pytest.param(pods()[:1], {}, ("skip", "no pod that uses the cluster's names was looked into on this node"), id="no-such-pod"),
        pytest.param(
            pods(),
            {"addresses": (), "unreadable": {"Services": "HTTP 403"}},
            ("skip", "the address of the cluster's DNS is not known: HTTP 403"),
            id="no-address",
        ),
        pytest.param(
            [{"name": "default/web-1", **network()}], {}, ("skip", "what pods are told to ask was not read"), id="earlier-version"
        ),
    ],
)
def test_resolver(existing: list[dict[str, Any]], changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(dns.resolver(facts(existing_pods=existing), cluster(**changes))) == expected


def test_cloud_dns_of_gke() -> None:
    existing = facts(existing_pods=pods(nameservers=["169.254.169.254"]))
    assert outcome(dns.resolver(existing, replace(cluster(), version="v1.33.4-gke.1134000"))) == ("pass", "")
    elsewhere = ("fail", f"node-1: default/web-1 asks 169.254.169.254, want 10.96.0.10 (Service kube-system/kube-dns) {CAT}")
    assert outcome(dns.resolver(existing, cluster())) == elsewhere


def test_pods_that_were_not_looked_into_are_told() -> None:
    judgement = dns.resolver(facts(existing_pods=pods(), existing_pods_running=40), cluster())
    assert outcome(judgement) == ("pass", "")
    assert told(judgement, "remark") == [f"node-1: what {len(pods())} of 40 pods are told to ask was read"]


def test_a_server_beside_the_cluster_s_is_advised_against() -> None:
    judgement = dns.resolver(facts(existing_pods=pods(nameservers=["10.96.0.10", "192.0.2.53"])), cluster())
    assert told(judgement, "advice") == [
        (
            "node-1: default/web-1 asks 192.0.2.53 beside the cluster's DNS (its dnsConfig?): musl asks all of them at once and takes the "
            "first answer, glibc asks it when the first is late"
        )
    ]


def test_what_the_search_list_costs() -> None:
    plain = tuple(parse_corefile(COREFILE.replace("    autopath @kubernetes\n", "")))
    judgement = dns.resolver(facts(existing_pods=pods()), cluster(blocks=plain))
    assert told(judgement, "advice") == [
        (
            "node-1: with ndots 5 and 3 search domains a name outside the cluster costs up to 6 questions in vain (A and AAAA); "
            "a dot at its end, ndots:2, autopath or NodeLocal DNSCache spare them"
        )
    ]
    for spared in (cluster(), cluster(blocks=plain, node_local=LOCAL)):
        assert told(dns.resolver(facts(existing_pods=pods()), spared), "advice") == []
    assert told(dns.resolver(facts(existing_pods=pods(ndots=1)), cluster(blocks=plain)), "advice") == []
