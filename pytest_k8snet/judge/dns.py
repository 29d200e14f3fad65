"""Judge what can be read of DNS, and what it answers pods.

What can be read are CoreDNS' pods and Corefile, NodeLocal DNSCache, what pods are told to ask, and what kubelets tell the next ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_k8snet.cluster.dns import CLOUD_DNS, Dns, ServerBlock, may_be_of_cloud
from pytest_k8snet.cluster.model import Cluster, parsed_address
from pytest_k8snet.cluster.serving import is_served
from pytest_k8snet.expect.model import DnsExpectation
from pytest_k8snet.judge.model import Judgement, Weight
from pytest_k8snet.judge.service import nobody_serves
from pytest_k8snet.record.dns import DnsRecord, Round, Series
from pytest_k8snet.record.facts import ExistingPod, NodeFacts, ResolvConf
from pytest_k8snet.record.kubelet import Kubelet

_PODS = "kubectl -n kube-system get pods -l k8s-app=kube-dns -o wide"

#: Servers that are advised where no profile says how many.
REPLICAS = 2

#: Address that NodeLocal DNSCache listens on by default (nodelocaldns.yaml).
_CURL = "%{time_namelookup} %{time_total}"

#: From when on the time that names take of requests is worth advice: the larger part of it, and so many milliseconds.
_LARGER_PART = 0.5
_NOTICED_MS = 10.0

LINK_LOCAL = "169.254.20.10"

#: That of AKS' LocalDNS for pods: a service of the node, which no object of the cluster tells of (AgentBaker, localdns.sh).
AKS_LOCAL = "169.254.10.11"


def servers(cluster: Cluster, expect: DnsExpectation) -> Judgement:
    """Judge that CoreDNS' pods are ready, enough, and not all on one node.

    Without a wish in a profile too few of them, or all on one node, is advice. What is on a node that is not Ready is that node's matter,
    as long as another one answers.
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
    absent = {node.name for node in cluster.nodes if not node.ready}
    for server in dns.servers:
        if not server.ready and server.node in absent and ready:
            judgement.remark(f"pod {server.name} on {server.node} is not ready, as its node is not Ready", command=_PODS)
            continue
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
        told = f"NodeLocal DNSCache is ready on {local.ready} of {local.desired} nodes (DaemonSet {local.name})"
        if local.desired - len(absent) <= local.ready < local.desired:
            judgement.remark(f"{told}, and {len(absent)} node{' is' if len(absent) == 1 else 's are'} not Ready")
        else:
            command = f"kubectl -n {local.name.split('/')[0]} get daemonset {local.name.split('/')[1]}"
            judgement.check(local.ready >= local.desired, told, command=command)
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
    answered = any("kubernetes" in block.plugins for block in dns.blocks)
    if not answered and any("import" in block.plugins for block in dns.blocks):
        judgement.hold(1)
        judgement.remark(f"{source}: whether a server block has the plugin kubernetes is not known: what it imports is not read")
    else:
        judgement.check(answered, f"{source}: no server block has the plugin kubernetes: nobody answers the cluster's names")
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
    local = _others(cluster, dns)
    allowed = {parsed_address(address) for address in (*dns.addresses, *local)}
    want = " or ".join(
        [", ".join(dns.addresses) + f" (Service {dns.service})", *(["NodeLocal DNSCache"] if dns.node_local is not None else [])]
    )
    judgement = Judgement(want=want)
    judgement.evidence["pods"] = len(asking)
    if len(known) < facts.existing_pods_running:
        judgement.remark(f"{facts.node}: what {len(known)} of {facts.existing_pods_running} pods are told to ask was read")
    for pod, resolv in asking:
        others = [address for address in resolv.nameservers if parsed_address(address) not in allowed]
        if 0 < len(others) < len(resolv.nameservers):
            judgement.hold(1)
            judgement.advise(
                f"{facts.node}: {pod.name} asks {', '.join(others)} beside the cluster's DNS (its dnsConfig?): musl asks all of them at "
                "once and takes the first answer, glibc asks it when the first is late"
            )
            continue
        judgement.check(
            bool(resolv.nameservers) and not others,
            f"{facts.node}: {pod.name} asks {', '.join(others) or 'nobody'}, want {want}",
            measured=", ".join(resolv.nameservers),
            command=f"kubectl exec {pod.name.split('/')[-1]} -- cat /etc/resolv.conf",
        )
    _amplification(judgement, facts.node, dns, asking)
    return judgement


def _others(cluster: Cluster, dns: Dns) -> tuple[str, ...]:
    """Return the addresses at which others than the Service may answer: caches on the node itself, and Cloud DNS on GKE."""
    caches = (AKS_LOCAL,) if dns.node_local is None else (*dns.node_local.addresses, LINK_LOCAL, AKS_LOCAL)
    return (*caches, CLOUD_DNS) if may_be_of_cloud(cluster.version) else caches


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


def kubelet(facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge the addresses, the domain and the resolver that the node's kubelet gives to pods."""
    if "kubelet" in facts.errors:
        judgement = Judgement()
        judgement.error(f"{facts.node}: the kubelet's settings were not read{facts.why('kubelet')}")
        return judgement
    if not facts.kubelet_looked_for:
        return Judgement.beyond_reach("the kubelet's settings were not looked for: the record is of a version that did not")
    given, dns = facts.kubelet, cluster.dns
    if given is None:
        return Judgement.skipped("no process of this node is a kubelet: k3s has it within another")
    judgement = Judgement(want="the cluster's DNS, by its address and its domain")
    for path in given.unread:
        judgement.error(f"{facts.node}: the kubelet's file {path} could not be read")
    if not given.unread and dns is not None:
        if is_served(cluster):  # else the Service's address leads nowhere, and pods have to be told another one
            _given_addresses(judgement, facts.node, given, dns, _others(cluster, dns))
        _given_domain(judgement, facts.node, given, dns)
    _given_resolver(judgement, facts.node, given)
    if not judgement.checked and not judgement.findings:
        return Judgement.beyond_reach("neither the address of the cluster's DNS nor the resolver of the node is known")
    return judgement


def _given_addresses(judgement: Judgement, node: str, given: Kubelet, dns: Dns, local: Sequence[str]) -> None:
    if not dns.addresses:
        return
    want = f"{', '.join(dns.addresses)} (Service {dns.service}){' or NodeLocal DNSCache' * (dns.node_local is not None)}"
    told = () if given.dns is None else given.dns.value
    source = "clusterDNS is not set" if given.dns is None else given.dns.source
    known = {parsed_address(address) for address in (*dns.addresses, *local)}
    others = [address for address in told if parsed_address(address) not in known]
    judgement.evidence["clusterDNS"] = list(told)
    judgement.check(
        bool(told) and not others,
        f"{node}: the kubelet tells new pods to ask {', '.join(others) or 'the resolver of the node'}, want {want} ({source})",
        measured=", ".join(told),
        wanted=want,
    )


def _given_domain(judgement: Judgement, node: str, given: Kubelet, dns: Dns) -> None:
    zones = [zone.rstrip(".").lower() for block in dns.blocks for zone in block.plugins.get("kubernetes", ())]
    # Without zones of its own the plugin answers for those of its block; a variable stands for anything.
    if not zones or any("{" in zone or "$" in zone for zone in zones):
        return
    domain = "" if given.domain is None else str(given.domain.value).rstrip(".").lower()
    source = "clusterDomain is not set" if given.domain is None else given.domain.source
    judgement.evidence["clusterDomain"] = domain
    judgement.check(
        domain in zones,
        f"{node}: the kubelet gives new pods the search domain {domain or '(none)'}, and CoreDNS answers for {', '.join(zones)} ({source}; "
        f"{dns.corefile})",
        measured=domain,
        wanted=", ".join(zones),
    )


def _given_resolver(judgement: Judgement, node: str, given: Kubelet) -> None:
    """Judge that pods with the node's resolver, CoreDNS as a rule among them, are not told to ask themselves."""
    if given.resolv_path is None:
        return
    if given.resolvers is None:
        judgement.remark(f"{node}: {given.resolv_path}, which pods with dnsPolicy Default get, could not be read")
        return
    own = [address for address in given.resolvers if _is_loopback(address)]
    judgement.evidence[given.resolv_path] = list(given.resolvers)
    judgement.check(
        not own,
        f"{node}: the kubelet gives pods with dnsPolicy Default {given.resolv_path}, which names {', '.join(own)}: in a pod that is "
        "the pod itself, and CoreDNS forwards to itself (resolvConf: /run/systemd/resolve/resolv.conf where systemd-resolved runs)",
        measured=", ".join(given.resolvers),
    )


def _is_loopback(address: str) -> bool:
    parsed = parsed_address(address.partition("%")[0])
    return parsed is not None and parsed.is_loopback


def _why(dns: Dns) -> str:
    return "".join(f": {why}" for why in [*dns.unreadable.values()][:1])


def _not_recorded() -> Judgement:
    return Judgement.beyond_reach("the record is of a version that did not read the cluster's DNS")


def answers(record: DnsRecord, facts: NodeFacts, cluster: Cluster, expect: DnsExpectation) -> Judgement:
    """Judge that whom pods are told to ask answers every question of a node's pod, rightly and in time, over UDP and TCP."""
    asked = record.of("cache", "service", "cloud", "outside")
    if (unasked := _unasked(record, asked)) is not None:
        return unasked
    if not any(done.answered for series in asked for done in series.rounds) and (why := nobody_serves(facts, cluster)) is not None:
        return Judgement.skipped(why)
    judgement = Judgement(want=f"every question answered, 99 of 100 within {expect.p99_ms} ms")
    told_cloud = facts.kubelet is not None and facts.kubelet.dns is not None and CLOUD_DNS in facts.kubelet.dns.value
    if told_cloud and may_be_of_cloud(cluster.version) and not record.of("cloud"):
        judgement.inconclusive(
            f"{record.node}: the kubelet tells new pods to ask {CLOUD_DNS} (Cloud DNS), which did not answer rightly for the API server's "
            f"name in {record.domain}: give dns.domain in a profile if the cluster has another one",
            command=f"dig @{CLOUD_DNS} kubernetes.default.svc.{record.domain}.",
        )
    for series in asked:
        told = _told(record, series)
        _answered(judgement, record, series, told)
        if series.protocol == "UDP" and series.what != "outside":
            _in_time(judgement, record, told, _best(series, 0.99), "99 of 100 answers", expect)
    return judgement


def every_server(record: DnsRecord, expect: DnsExpectation) -> Judgement:
    """Judge that every server of the cluster's DNS answers a node's pod by itself: beside good ones a dead one shows now and then only."""
    asked = record.of("server")
    if (unasked := _unasked(record, asked)) is not None:
        return unasked
    number = len({series.address for series in asked})
    judgement = Judgement(want=f"every server answers, half of the answers within {expect.p99_ms} ms")
    judgement.evidence["servers"] = f"{number} of {record.servers_total}"
    if number < record.servers_total:
        judgement.remark(f"{record.node}: {number} of {record.servers_total} servers were asked from here")
    for series in asked:
        told = _told(record, series)
        _answered(judgement, record, series, told)
        if series.protocol == "UDP":
            _in_time(judgement, record, told, _best(series, 0.5), "half of the answers", expect)
    return judgement


def both_answers(record: DnsRecord, facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that of two questions from one socket, A and AAAA, both are answered. What neither is answered of says nothing here."""
    asked = record.of("cache", "service", "cloud", protocols=("pair",))
    if (unasked := _unasked(record, asked)) is not None:
        return unasked
    if not any(done.answered or done.missing for series in asked for done in series.rounds):
        if (why := nobody_serves(facts, cluster)) is not None:
            return Judgement.skipped(why)
        judgement = Judgement()
        judgement.inconclusive(f"{record.node}: not one pair of questions was answered at all; NET-DNS-004 says more")
        return judgement
    judgement = Judgement(want="both answers of every pair of questions")
    for series in asked:
        rounds = [done for done in series.rounds if done.answered or done.missing]
        lost = sum(sum(done.missing.values()) for done in rounds)
        told = f"{record.node}: {_whom(series)} left one question of a pair from one socket unanswered"
        what = f"{lost} of {sum(done.asked for done in rounds)} times ({', '.join(_kinds(rounds))}): a resolver waits 5 s then"
        judgement.evidence[f"pairs {series.address}"] = f"{sum(done.answered for done in rounds)} of {sum(done.asked for done in rounds)}"
        if rounds and judgement.check(not all(done.missing for done in rounds), f"{told} {what}", command=_dig(series)) and lost:
            judgement.remark(f"{told} {what}; not again when they were asked again")
    return judgement


def search_list(record: DnsRecord, facts: NodeFacts, cluster: Cluster, expect: DnsExpectation) -> Judgement:
    """Judge that names are found by the usual search list, and how many questions that takes when a profile says how many it may."""
    if (unasked := _unasked(record, record.walks)) is not None:
        return unasked
    says = [said for walk in record.walks for _, said in walk.tried]
    if all(_silent(said) for said in says):
        if (why := nobody_serves(facts, cluster)) is not None:
            return Judgement.skipped(why)
        judgement = Judgement()
        judgement.inconclusive(f"{record.node}: not one question was answered at all; NET-DNS-004 says more")
        return judgement
    judgement = Judgement(
        want="names are found" if expect.questions is None else f"names are found with at most {expect.questions} questions"
    )
    for walk in record.walks:
        at = ", ".join(f"{name}: {said}" for name, said in walk.tried)
        found = judgement.check(
            bool(walk.addresses), f"{record.node}: {walk.name} is not found by the search list {' '.join(record.search)} ({at})"
        )
        stuck = [f"{name}: {said}" for name, said in walk.tried if _silent(said) or said in ("SERVFAIL", "REFUSED")]
        if found:
            judgement.check(not stuck, f"{record.node}: {walk.name} is found only after names that nobody answers for ({', '.join(stuck)})")
        if expect.questions is not None:
            judgement.check(
                walk.questions <= expect.questions.value,
                f"{record.node}: {walk.name} takes {walk.questions} questions, want at most {expect.questions}: {at}",
                measured=walk.questions,
            )
        judgement.evidence[f"questions {walk.name}"] = walk.questions
    _resolution(judgement, record)
    return judgement


def _resolution(judgement: Judgement, record: DnsRecord) -> None:
    """Tell what part of an HTTP request's time its name takes. What it may take nobody says: the larger part is advice."""
    absolute = next((item for item in record.requested if item.name.endswith(".")), None)
    for item in record.requested:
        if item.resolve_ms is None or item.connect_ms is None or item.answer_ms is None or item.share is None:
            judgement.remark(f"{record.node}: no HTTPS request to {item.name} could be timed: {item.error}")
            continue
        whole_ms = item.resolve_ms + item.connect_ms + item.answer_ms
        took = f"{item.resolve_ms:.3g} of {whole_ms:.3g} ms"
        told = f"{item.share:.0%} of an HTTPS request to {item.name} is the resolution of its name: {took}"
        judgement.evidence[f"request to {item.name}"] = {
            "resolve_ms": item.resolve_ms,
            "connect_ms": item.connect_ms,
            "answer_ms": item.answer_ms,
            "share": item.share,
            "requests": item.requests,
        }
        if item.share > _LARGER_PART and item.resolve_ms > _NOTICED_MS:
            by_dot = (
                f" (with a dot at the end of its full name {absolute.resolve_ms:.3g} ms)"
                if absolute is not None and absolute is not item and absolute.resolve_ms is not None
                else ""
            )
            judgement.advise(
                f"{record.node}: {told}{by_dot}", measured=item.share, command=f"curl -w '{_CURL}' https://{item.name}/version"
            )


def _unasked(record: DnsRecord, asked: Sequence[object]) -> Judgement | None:
    if record.absent is not None:
        return Judgement.beyond_reach(record.absent) if record.unread else Judgement.skipped(record.absent)
    if not asked:
        return Judgement.skipped("the DNS Service has no address and no ready endpoint that could be asked")
    return None


def _answered(judgement: Judgement, record: DnsRecord, series: Series, told: str) -> None:
    """Judge that every question of a series was answered, in one of its rounds at least, and with the right address."""
    last = series.rounds[-1]
    failed = sum(sum(done.errors.values()) for done in series.rounds)
    asked = sum(done.asked for done in series.rounds)
    reasons = Counter[str]()
    for done in series.rounds:
        reasons.update(done.errors)
    what = (
        f"{failed} of {asked} questions for {series.name} failed: {', '.join(f'{reason} ({count})' for reason, count in reasons.items())}"
    )
    guessed = record.domain_from == "assumed" and series.what != "outside" and set(reasons) == {"NXDOMAIN"}
    if guessed:
        judgement.inconclusive(
            f"{told}: {what}; no Corefile tells the cluster's domain: give dns.domain in a profile", command=_dig(series)
        )
        return
    if judgement.check(not last.errors, f"{told}: {what}", command=_dig(series)):
        if failed:
            judgement.remark(f"{told}: {what}; not again when they were asked again")
        if series.what != "outside" and record.want:
            others = [address for address in last.addresses if address not in record.want]
            judgement.check(
                not others,
                f"{told}: {series.name} is {', '.join(others)}, want {', '.join(record.want)}",
                measured=", ".join(others),
                command=_dig(series),
            )


def _in_time(judgement: Judgement, record: DnsRecord, told: str, took_ms: float | None, what: str, expect: DnsExpectation) -> None:
    """Judge a time, unless the machine alone takes half of what is allowed."""
    if took_ms is None:
        return
    wanted = expect.p99_ms
    own = [_best(series, 0.99) for series in record.of("loopback", protocols=("loopback",))]
    own_ms = max((ms for ms in own if ms is not None), default=0.0)
    judgement.evidence[f"{told.partition(': ')[2]}, {what}"] = f"{took_ms:g} ms"
    message = f"{told}: {what} took up to {took_ms:g} ms, want {wanted.value:g} ({wanted.origin})"
    if took_ms > wanted.value and own_ms > wanted.value / 2:
        judgement.inconclusive(f"{message}; the pod's own loopback took {own_ms:g} ms: its node is too busy to tell", measured=took_ms)
        return
    judgement.check(took_ms <= wanted.value, message, measured=f"{took_ms:g} ms")


def _best(series: Series, share: float) -> float | None:
    """Return the best round's time: a slow round among quick ones was slowed by something that passed."""
    times = [done.p50_ms if share == 0.5 else done.p99_ms for done in series.rounds]
    return min((ms for ms in times if ms is not None), default=None)


def _whom(series: Series) -> str:
    where = f" on {series.node}" if series.node else ""
    named = {"service": "Service ", "cache": "NodeLocal DNSCache ", "server": "pod "}.get(series.what, "")
    return f"{named}{series.server}{where} ({series.address})"


def _told(record: DnsRecord, series: Series) -> str:
    return f"{record.node}: {_whom(series)} over {series.protocol}"


def _kinds(rounds: Sequence[Round]) -> list[str]:
    return sorted({kind for done in rounds for kind in done.missing})


def _silent(said: str) -> bool:
    return said not in ("NOERROR", "no address", "NXDOMAIN", "SERVFAIL", "REFUSED", "no answer for AAAA")


def _dig(series: Series) -> str:
    options = f"{'-p ' + str(series.port) + ' ' if series.port != 53 else ''}{'+tcp ' if series.protocol == 'TCP' else ''}"
    return f"dig {options}@{series.address} {series.name}"
