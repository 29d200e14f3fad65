"""Judge what can be read of DNS: CoreDNS' pods and Corefile, NodeLocal DNSCache, and what pods are told to ask."""

from __future__ import annotations

from collections import Counter

from pytest_k8snet.cluster.dns import Dns, ServerBlock
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.expect.model import DnsExpectation
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.record.facts import ExistingPod, NodeFacts, ResolvConf

_PODS = "kubectl -n kube-system get pods -l k8s-app=kube-dns -o wide"

#: Servers that are advised where no profile says how many.
REPLICAS = 2

#: Address that NodeLocal DNSCache listens on by default (nodelocaldns.yaml).
LINK_LOCAL = "169.254.20.10"


def servers(cluster: Cluster, expect: DnsExpectation) -> Judgement:
    """Judge that CoreDNS' pods are ready, enough, and not all on one node.

    Without a wish in a profile too few of them, or all on one node, is advice.
    """
    dns = cluster.dns
    if dns is None:
        return _not_recorded()
    if not dns.servers:
        return Judgement.skipped("no pod of kube-system has the label k8s-app=kube-dns: DNS is somebody else's here")
    least = REPLICAS if expect.replicas is None else expect.replicas.value
    told = f"{REPLICAS} (advised)" if expect.replicas is None else str(expect.replicas)
    weight = Weight.ADVICE if expect.replicas is None else Weight.FAULT
    judgement = Judgement(want=f"{told} servers, on more than one node")
    ready = [server for server in dns.servers if server.ready]
    judgement.evidence["servers"] = dict(Counter(server.node or "no node" for server in ready))
    for server in dns.servers:
        judgement.check(server.ready, f"pod {server.name} on {server.node or 'no node'} is not ready", command=_PODS)
    if len(ready) < least:
        judgement.add(weight, f"{len(ready)} of {len(dns.servers)} pods of CoreDNS are ready, want {told}", command=_PODS)
    nodes = {server.node for server in ready}
    usable = [node.name for node in cluster.nodes if node.ready and node.schedulable and node.excluded is None]
    if len(ready) > 1 and len(nodes) == 1 and len(usable) > 1:
        judgement.add(
            weight,
            f"all {len(ready)} pods of CoreDNS are on {ready[0].node}: when it goes, DNS of {len(usable)} nodes does",
            command=_PODS,
        )
    if dns.node_local is not None:
        local = dns.node_local
        judgement.check(
            local.ready >= local.desired,
            f"NodeLocal DNSCache is ready on {local.ready} of {local.desired} nodes (DaemonSet {local.name})",
            command=f"kubectl -n {local.name.split('/')[0]} get daemonset {local.name.split('/')[1]}",
        )
        judgement.evidence["node_local"] = local.name
    return judgement


def corefile(cluster: Cluster) -> Judgement:
    """Judge the Corefile: that it answers the cluster's names, does what it says, and what it would be better to have."""
    dns = cluster.dns
    if dns is None:
        return _not_recorded()
    if dns.corefile is None:
        if why := next(iter(dns.unreadable.values()), None):
            return Judgement.beyond_reach(f"the Corefile is not readable: {why}")
        return Judgement.skipped("kube-system has no ConfigMap with a Corefile: DNS is somebody else's here")
    source = dns.corefile
    judgement = Judgement(want="a Corefile that answers the cluster's names")
    if not judgement.check(dns.damaged is None, f"{source}: {dns.damaged}: CoreDNS does not start with it"):
        return judgement
    judgement.check(
        any("kubernetes" in block.plugins for block in dns.blocks),
        f"{source}: no server block has the plugin kubernetes: nobody answers the cluster's names",
    )
    for block in dns.blocks:
        _autopath(judgement, source, block)
        _forward(judgement, source, block, dns)
    roots = [block for block in dns.blocks if block.is_root]
    judgement.evidence["plugins"] = sorted({name for block in roots for name in block.plugins})
    for root in roots:
        if "forward" not in root.plugins and "proxy" not in root.plugins:
            judgement.remark(f"{source}: nothing is forwarded: names outside the cluster are not resolved")
        if "cache" not in root.plugins:
            judgement.advise(f"{source}: no cache: every question of every pod goes to the API's data or upstream")
        if "ready" not in root.plugins:
            judgement.advise(f"{source}: no plugin ready: pods get questions before they know the Services")
    if not roots:
        judgement.remark(f"{source}: no server block for zone .: names outside the cluster are not resolved")
    return judgement


def _autopath(judgement: Judgement, source: str, block: ServerBlock) -> None:
    if "autopath" not in block.plugins:
        return
    verified = "pods verified" in block.options.get("kubernetes", ())
    judgement.check(
        verified,
        f"{source}: autopath {' '.join(block.plugins['autopath'])} has no effect without `pods verified` of the plugin kubernetes",
    )


def _forward(judgement: Judgement, source: str, block: ServerBlock, dns: Dns) -> None:
    _, *upstreams = block.plugins.get("forward") or ("",)
    own = [upstream for upstream in upstreams if upstream.removeprefix("dns://").split(":53")[0] in dns.addresses]
    judgement.check(not own, f"{source}: it forwards to {', '.join(own)}, its own Service {dns.service}: questions go round in a loop")
    if any(upstream.startswith("/") for upstream in upstreams) and "loop" not in block.plugins:
        judgement.advise(
            f"{source}: it forwards to what {upstreams[0]} of the node says and has no plugin loop: a node whose resolver asks the cluster "
            "goes round in a loop unnoticed"
        )


def resolver(facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge what pods that were there before are told to ask: the cluster's DNS or the node's cache, where they use the cluster's names.

    Pods that use the node's own resolver (dnsPolicy Default) are left out: their search list has none of the cluster's domains.
    """
    dns = cluster.dns
    if dns is None:
        return _not_recorded()
    known = [pod for pod in facts.existing_pods if pod.resolv is not None]
    asking = [(pod, pod.resolv) for pod in known if pod.resolv is not None and pod.resolv.of_cluster]
    if not asking:
        if facts.existing_pods and not known:
            return Judgement.beyond_reach("what pods are told to ask was not read")
        return Judgement.skipped("no pod that uses the cluster's names was looked into on this node")
    if not dns.addresses:
        return Judgement.beyond_reach(f"the address of the cluster's DNS is not known{_why(dns)}")
    local = () if dns.node_local is None else (*dns.node_local.addresses, LINK_LOCAL)
    allowed = {*dns.addresses, *local}
    want = " or ".join([", ".join(dns.addresses) + f" (Service {dns.service})", *(["NodeLocal DNSCache"] if local else [])])
    judgement = Judgement(want=want)
    judgement.evidence["pods"] = len(asking)
    for pod, resolv in asking:
        others = [address for address in resolv.nameservers if address not in allowed]
        judgement.check(
            bool(resolv.nameservers) and not others,
            f"{facts.node}: {pod.name} asks {', '.join(others) or 'nobody'}, want {want}",
            measured=", ".join(resolv.nameservers),
            command=f"kubectl exec {pod.name.split('/')[-1]} -- cat /etc/resolv.conf",
        )
    _amplification(judgement, facts.node, dns, asking)
    return judgement


def _amplification(judgement: Judgement, node: str, dns: Dns, asking: list[tuple[ExistingPod, ResolvConf]]) -> None:
    """Tell what the search list costs: a name with fewer dots than ndots is tried with every domain of it first."""
    if dns.node_local is not None or any("autopath" in block.plugins for block in dns.blocks):
        return
    costly = [resolv for _, resolv in asking if resolv.ndots > 1 and len(resolv.search) > 1]
    if costly:
        most = max(len(resolv.search) for resolv in costly)
        judgement.advise(
            f"{node}: with ndots {max(resolv.ndots for resolv in costly)} and {most} search domains a name outside the cluster costs up to "
            f"{2 * most} questions in vain (A and AAAA); a dot at its end, ndots:2, autopath or NodeLocal DNSCache spare them"
        )


def _why(dns: Dns) -> str:
    return "".join(f": {why}" for why in [*dns.unreadable.values()][:1])


def _not_recorded() -> Judgement:
    return Judgement.beyond_reach("the record is of a version that did not read the cluster's DNS")
