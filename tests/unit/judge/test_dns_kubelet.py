from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.access.fake import FakeCluster, healthy_dns, healthy_host_facts
from pytest_k8snet.cluster.dns import Dns, NodeLocal
from pytest_k8snet.judge import dns as judge
from pytest_k8snet.judge.model import Judgement, Verdict
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import NodeFacts

DNS = healthy_dns(["node-1"])
LOCAL = replace(DNS, node_local=NodeLocal("kube-system/node-local-dns", 1, 1, ("169.254.25.10",)))
PATH = "/var/lib/kubelet/config.yaml"


def judged(
    text: str | None = None, /, *, dns: Dns | None = DNS, flags: dict[str, str] | None = None, version: str = "v1.37.0", **changes: Any
) -> Judgement:
    facts = healthy_host_facts()
    if text is not None:
        facts["kubelet"]["files"] = [{"path": PATH, "text": text}]
    facts["kubelet"].update({"flags": flags or {}, **changes})
    values = {**facts, "pod": None}
    document = Document(kind="facts", subject="node-1", started="", duration_s=0, method="", values=values)
    return judge.kubelet(NodeFacts.from_document(document), replace(FakeCluster(["node-1"]).read_cluster(), dns=dns, version=version))


def settings(dns: str = "[10.96.0.10]", domain: str = "cluster.local") -> str:
    return f"clusterDNS: {dns}\nclusterDomain: {domain}\n"


def resolv(*addresses: str) -> dict[str, Any]:
    return {"nameservers": [*addresses], "search": [], "ndots": 1}


def test_addresses_where_nobody_serves_services() -> None:
    cluster = replace(FakeCluster(["node-1"]).read_cluster(), kube_proxy_daemonsets=(), claims={}, cni=None, dns=DNS)
    facts = healthy_host_facts()
    facts["kubelet"]["files"] = [{"path": PATH, "text": settings("[192.0.2.1]")}]
    document = Document(kind="facts", subject="node-1", started="", duration_s=0, method="", values={**facts, "pod": None})
    assert judge.kubelet(NodeFacts.from_document(document), cluster).verdict is Verdict.PASS


FINE = {
    "healthy": judged(),
    "NodeLocal": judged(settings("[169.254.20.10]"), dns=LOCAL),
    "NodeLocal with an address of its own": judged(settings("['169.254.25.10']"), dns=LOCAL),
    "LocalDNS of AKS": judged(settings("[169.254.10.11]")),
    "Cloud DNS of GKE": judged(settings("[169.254.169.254]"), version="v1.33.4-gke.1134000"),
    "by flags": judged("", flags={"clusterDNS": "10.96.0.10", "clusterDomain": "cluster.local."}),
    "flags win": judged(settings("[192.0.2.1]"), flags={"clusterDNS": "10.96.0.10"}),
    "no resolver is given": judged(resolv_path=None, resolv=None),
    "the resolver is not readable": judged(resolv=None),
    "another way to write an address": judged(settings("['fd00::0:a']"), dns=replace(DNS, addresses=("fd00::a",))),
    "nothing is known of DNS": judged(settings("[192.0.2.1]", "other"), dns=Dns()),
}


@pytest.mark.parametrize("judgement", FINE.values(), ids=FINE)
def test_as_it_should_be(judgement: Judgement) -> None:
    assert judgement.verdict is Verdict.PASS, judgement.message


ELSEWHERE = "want 10.96.0.10 (Service kube-system/kube-dns)"
WRONG = {
    "elsewhere": (judged(settings("[10.96.0.10, 192.0.2.53]")), f"new pods to ask 192.0.2.53, {ELSEWHERE} ({PATH} clusterDNS)"),
    "by a flag": (judged(flags={"clusterDNS": "192.0.2.53"}), f"new pods to ask 192.0.2.53, {ELSEWHERE} (--cluster-dns)"),
    "not set": (judged("clusterDomain: cluster.local\n"), f"new pods to ask the resolver of the node, {ELSEWHERE} (clusterDNS is not set)"),
    "NodeLocal that is not there": (judged(settings("[169.254.20.10]")), f"new pods to ask 169.254.20.10, {ELSEWHERE}"),
    "Cloud DNS, not on GKE": (judged(settings("[169.254.169.254]")), f"new pods to ask 169.254.169.254, {ELSEWHERE}"),
    "with NodeLocal": (judged(settings("[192.0.2.53]"), dns=LOCAL), f"{ELSEWHERE} or NodeLocal DNSCache"),
    "domain": (
        judged(settings(domain="corp.example")),
        f"corp.example, and CoreDNS answers for cluster.local, in-addr.arpa, ip6.arpa ({PATH} clusterDomain; ConfigMap kube-system/coredns",
    ),
    "no domain": (judged("clusterDNS: [10.96.0.10]\n"), "the search domain (none), and CoreDNS answers for cluster.local"),
    "loop": (
        judged(resolv=resolv("127.0.0.53")),
        "node-1: the kubelet gives pods with dnsPolicy Default /etc/resolv.conf, which names 127.0.0.53: in a pod that is the pod itself, ",
    ),
    "loop of IPv6": (judged(resolv=resolv("10.0.0.1", "::1%lo")), "which names ::1%lo"),
}


@pytest.mark.parametrize(("judgement", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong(judgement: Judgement, message: str) -> None:
    assert judgement.verdict is Verdict.FAIL
    assert message in judgement.message


@pytest.mark.parametrize("text", [None, "clusterDNS: [10.96.0.10"])
def test_a_file_that_cannot_be_read_is_an_error(text: str | None) -> None:
    judgement = judged(files=[{"path": PATH, "text": text}])
    assert (judgement.verdict, judgement.message) == (Verdict.ERROR, f"node-1: the kubelet's file {PATH} could not be read")


def test_where_there_is_nothing_to_judge() -> None:
    facts = {**healthy_host_facts(), "pod": None}

    def of(**changes: Any) -> Judgement:
        values = {key: value for key, value in {**facts, **changes}.items() if value != "gone"}
        document = Document(kind="facts", subject="node-1", started="", duration_s=0, method="", values=values)
        return judge.kubelet(NodeFacts.from_document(document), FakeCluster(["node-1"]).read_cluster())

    inside = of(kubelet=None)
    assert (inside.verdict, inside.message) == (
        Verdict.SKIP,
        "no process of this node is a kubelet: k3s has it within another",
    )
    assert of(kubelet="gone").unsupported
    failed = of(kubelet=None, errors={"kubelet": "a child of the agent ended without an answer"})
    assert failed.verdict is Verdict.ERROR
    assert failed.message.endswith("were not read: a child of the agent ended without an answer")


def test_nothing_known_is_no_pass() -> None:
    judgement = judged(dns=None, resolv_path=None)
    assert judgement.unsupported
    assert judgement.message == "neither the address of the cluster's DNS nor the resolver of the node is known"
