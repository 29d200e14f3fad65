"""Judge whether pods and nodes reach each other, and whether they are seen under their own address."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from pytest_k8snet.cluster.model import Cluster, parsed_address
from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import EgressExpectation
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.duplicates import DuplicatesRecord, Stranger
from pytest_k8snet.record.neighbours import VRRP, Entry, Neighbourhood
from pytest_k8snet.record.owners import Asked, OwnersRecord, Shared
from pytest_k8snet.record.reach import Answer, ReachRecord

_ALONE = "there is no other node that it sends to"
_NAMED = 3  # nodes in a message about many


def pods_reach_pods(record: ReachRecord) -> Judgement:
    """Judge that the node's pod reaches the pod of every other node, over TCP and UDP."""
    return _reached(record, record.of("pod", "pod"), "pod")


def node_reaches_pods(record: ReachRecord) -> Judgement:
    """Judge that the node itself reaches the pods of all nodes, its own too."""
    return _reached(record, record.of("host", "pod"), "node")


def pod_reaches_own_node(record: ReachRecord) -> Judgement:
    """Judge that the node's pod reaches the node it runs on: any answer will do, a refusal as well."""
    answers = [answer for answer in record.of("pod", "host") if answer.target == record.node]
    if not answers:
        return Judgement.skipped(f"{record.node}: the node has no InternalIP")
    judgement = Judgement(want="any answer from the pod's own node (built-in)")
    for address in dict.fromkeys(answer.address for answer in answers):
        at = [answer for answer in answers if answer.address == address]
        answered = [answer for answer in at if answer.error is None or answer.refused or answer.error == "something else answers there"]
        key = "answers" if address == answers[0].address else f"answers at {address}"
        judgement.evidence[key] = {f"{answer.protocol} {answer.port}": answer.error or "answered" for answer in at}
        tried = ", ".join(f"{answer.protocol} {answer.port} {answer.error}" for answer in at)
        judgement.check(
            bool(answered),
            f"{record.node}: its pod {_own(record, address)} gets no answer from its own node at {address} ({tried}), want any: "
            "agents on the node's own address, such as NodeLocal DNSCache, are out of reach for pods",
            measured=tried,
            wanted="any answer",
        )
    return judgement


def source_is_kept(record: ReachRecord) -> Judgement:
    """Judge that pods of other nodes see this node's pod under its own address.

    "Pods can communicate with all other pods, without the use of proxies or address translation (NAT)" (Kubernetes documentation,
    Services, Load Balancing, and Networking: the Kubernetes network model).
    """
    if not record.of("pod", "pod"):
        return _nobody(record)
    judgement = Judgement(want="pods see each other under their own addresses (built-in)")
    own = {ipaddress.ip_address(address) for address in record.pod_ips}
    seen: dict[tuple[str, str], list[str]] = {}  # by what was seen and who saw it
    for answer in record.of("pod", "pod"):
        if answer.seen is None or answer.server != answer.target:
            continue  # that they are not reached is another check's
        if ipaddress.ip_address(answer.seen) in own:
            judgement.hold(1)
        else:
            seen.setdefault((answer.seen, answer.target), []).append(answer.protocol)
    for address in dict.fromkeys(address for address, _ in seen):
        targets = [f"{target} ({' and '.join(by)})" for (other, target), by in seen.items() if other == address]
        own_text = _own(record, address)
        judgement.check(
            False,
            f"{record.node}: its pod {own_text} is seen as {address} by pods on {', '.join(targets)}, "
            "want its own address: it is masqueraded",
            measured=address,
            wanted=own_text,
            command=_read_nat(address),
        )
    if not judgement.checked:
        judgement.inconclusive(f"{record.node}: no pod of another node was reached, so none has seen its pod's address")
    return judgement


def egress_source(record: ReachRecord, expect: EgressExpectation) -> Judgement:
    """Judge that other nodes see this node's pod under its own address, or under the node's, whichever the profile wants."""
    wanted = expect.source
    if wanted is None:
        return Judgement.skipped("no profile says under whose address other nodes see pods (egress.source)")
    answers = [answer for answer in record.of("pod", "host") if answer.target != record.node]
    if not answers:
        return Judgement.skipped(f"{record.node}: no other node could be asked whom it sees")
    judgement = Judgement(want=f"other nodes see pods under the address of the {wanted}")
    own = {ipaddress.ip_address(address) for address in record.pod_ips}
    host = None if record.host_ip is None else ipaddress.ip_address(record.host_ip)
    for answer in answers:
        if answer.seen is None or answer.server != answer.target:
            continue
        seen = ipaddress.ip_address(answer.seen)
        whose = "pod" if seen in own else "node" if seen == host else None
        pod = _own(record, answer.address)
        names = {"pod": "its own address", "node": "its node's address", None: "neither its own address nor its node's"}
        judgement.evidence[f"{answer.target}, {answer.protocol}"] = answer.seen
        judgement.check(
            whose == wanted.value,
            f"{record.node}: {answer.target} sees its pod {pod} as {answer.seen} ({answer.protocol}), {names[whose]}, "
            f"want {names[wanted.value]} ({wanted.origin})",
            measured=answer.seen,
            wanted=pod if wanted.value == "pod" else record.host_ip,
            command=_read_nat(answer.address),
        )
    if not judgement.checked:
        said = ", ".join(dict.fromkeys(f"{answer.protocol} {_came_back(answer)}" for answer in answers))
        judgement.inconclusive(f"{record.node}: no other node answered its pod, so none has said whom it sees ({said})")
    return judgement


def _reached(record: ReachRecord, answers: Sequence[Answer], who: str) -> Judgement:
    if not answers:
        return _nobody(record)
    judgement = Judgement(want="every pod is reached over TCP and UDP (built-in)")
    for target, reason in record.unasked.items():
        judgement.remark(f"{record.node}: the pod on {target} was not asked: {reason}")
    for target in dict.fromkeys(answer.target for answer in answers):
        for address in dict.fromkeys(answer.address for answer in answers if answer.target == target):
            _check(judgement, record, [answer for answer in answers if (answer.target, answer.address) == (target, address)], who)
    times = sorted(answer.milliseconds for answer in answers if answer.error is None and answer.milliseconds is not None)
    judgement.evidence.update(asked=len(answers), answered=len(times), slowest_ms=times[-1] if times else None)
    return judgement


def _check(judgement: Judgement, record: ReachRecord, answers: Sequence[Answer], who: str) -> None:
    """Check the answers from one address: TCP and UDP together make one message."""
    first = answers[0]
    source = f"its pod {_own(record, first.address)}" if who == "pod" else "it"
    told = "; ".join(f"{answer.protocol} {_came_back(answer)}" for answer in answers)
    wrong = [answer for answer in answers if answer.error is not None or answer.server != answer.target]
    judgement.hold(len(answers) - len(wrong))
    if wrong:
        strangers = {answer.server for answer in wrong if answer.server is not None}
        because = f": two pods have this address, or it is routed to {' and '.join(sorted(strangers))}" if strangers else ""
        judgement.check(
            False,
            f"{record.node}: {source} does not reach the pod on {first.target} at {first.address}: {told}, want an answer from it{because}",
            measured=told,
            wanted="TCP and UDP answered",
            command=f"ip route get {first.address}",
        )
    elif slow := [answer for answer in answers if answer.tries > 1]:
        judgement.advise(
            f"{record.node}: {source} reached the pod on {first.target} at {first.address} only at the second try "
            f"({', '.join(answer.protocol for answer in slow)}): packets are lost on the way"
        )


def _came_back(answer: Answer) -> str:
    if answer.error is not None:
        return f"{answer.error} ({answer.tries} tries)"
    return "answered" if answer.server == answer.target else f"answered by {answer.server}"


def _read_nat(address: str) -> str:
    return f"{'ip6tables' if ':' in address else 'iptables'}-save -t nat"


def _own(record: ReachRecord, beside: str) -> str:
    """Return the pod's address of the same family as `beside`."""
    version = ipaddress.ip_address(beside).version
    return next((address for address in record.pod_ips if ipaddress.ip_address(address).version == version), ", ".join(record.pod_ips))


def _nobody(record: ReachRecord) -> Judgement:
    if not record.unasked:
        return Judgement.skipped(f"{record.node}: {_ALONE}")
    # That is those nodes' own error.
    reasons = "; ".join(f"{target}: {reason.removeprefix(f'{target}: ')}" for target, reason in record.unasked.items())
    return Judgement.skipped(f"{record.node}: no pod of another node could be asked ({reasons})")


def load_balancer_owner(documents: Mapping[str, Document]) -> Judgement:
    """Judge that exactly one machine answers for every load balancer's address that is in a subnet of nodes: `documents` are all nodes'."""
    judgement = Judgement(want="one machine that answers for each address of a load balancer (built-in)")
    records: list[OwnersRecord] = []
    unheard = []
    for document in documents.values():
        try:
            records.append(OwnersRecord.from_document(document))
        except RecordError as error:
            unheard.append(str(error))
    if (absent := next((record.absent for record in records if record.absent is not None), None)) is not None:
        return Judgement.beyond_reach(absent)
    addresses = {item.address: item for record in records for item in record.addresses}
    if records and not addresses:
        return Judgement.skipped("no Service has an IPv4 address of a load balancer that nodes answer for")
    heard = {record.node: record.heard[-1] for record in records if record.heard}
    if not heard:
        judgement.error(f"no node could be asked who answers for addresses of load balancers: {unheard[0] if unheard else 'there is none'}")
        return judgement
    for why in unheard:
        judgement.remark(f"not asked: {why}")
    near = [item for item in addresses.values() if any(item.address in asked.answers for asked in heard.values())]
    if not near:
        networks = ", ".join(sorted({str(ipaddress.ip_interface(asked.network).network) for asked in heard.values()}))
        return Judgement.skipped(f"no address of a load balancer is in the nodes' own subnet ({networks}): nobody answers ARP for it")
    for item in near:
        _owned(judgement, item, heard)
    if left_out := max(record.left_out for record in records):
        judgement.remark(f"{left_out} more addresses of load balancers were not asked for")
    return judgement


def _owned(judgement: Judgement, item: Shared, heard: Mapping[str, Asked]) -> None:
    hearing = {name: asked for name, asked in heard.items() if item.address in asked.answers}
    nodes = {mac: name for name, asked in heard.items() for mac in asked.macs}
    owners: dict[str, list[str]] = {}  # a node, or a hardware address that is no node's, and what answered of it
    for mac in sorted({mac for asked in hearing.values() for mac in asked.answers[item.address]}):
        owners.setdefault(nodes.get(mac, mac), []).append(mac)
    told = ", ".join(owner if [owner] == macs else f"{' and '.join(macs)} ({owner})" for owner, macs in owners.items())
    what = f"{item.address} of Service {', '.join(item.services)}"
    judgement.evidence[item.address] = {"owners": told, "heard_by": sorted(name for name in hearing if hearing[name].answers[item.address])}
    command = f"arping -c 3 {item.address}"
    if len(owners) > 1:
        text = f"{what}: {len(owners)} machines answer for it: {told}, want one: clients talk to whichever is quicker"
        judgement.check(False, text, measured=len(owners), wanted=1, command=command)
    elif owners:
        deaf = [name for name, asked in hearing.items() if not asked.answers[item.address] and name not in owners]
        if len(deaf) == 1 and not owners.keys() & heard.keys():
            deaf = []  # it may be the owner by another device (VRRP has hardware addresses of its own), and does not hear itself
        judgement.check(
            not deaf,
            f"{what}: {told} answers for it, and {', '.join(deaf)} hears no answer, want one for every node of its subnet",
            measured=len(hearing) - len(deaf),
            wanted=len(hearing),
            command=command,
        )
    elif not item.ready:
        judgement.hold(1)
        judgement.remark(f"{what}: nobody answers for it; no endpoint is ready behind it, and nobody needs to")
    elif not any(asked.control_macs for asked in hearing.values()):
        alone = "there is one node to ask, which does not hear itself" if len(hearing) == 1 else "nobody answers for the nodes' own either"
        judgement.inconclusive(f"{what}: nobody answers for it, and {alone}: whether it has an owner is not seen", command=command)
    else:
        text = f"{what}: nobody answers for it to {', '.join(hearing)}, want one; answers for another node's address are heard"
        judgement.check(False, text, measured=0, wanted=1, command=command)


def neighbour_entries(documents: Mapping[str, Document], cluster: Cluster) -> Judgement:
    """Judge that what nodes were told of each other's hardware addresses is so: `documents` are the facts of all nodes.

    An entry that somebody set (PERMANENT) is never asked for again, and what it sends to an address that nobody has is lost without a
    word. Entries that the kernel learned mend themselves: such a one is a remark.
    """
    judgement = Judgement(want="a device of the node behind every permanent neighbour entry for it (built-in)")
    parsed = ((parsed_address(address), node.name) for node in cluster.nodes for address in node.addresses)
    owner = {str(address): name for address, name in parsed if address is not None}  # as the kernel writes them
    seen: list[Neighbourhood] = []
    older = False
    for name in sorted(documents):  # one by one: all of them do not fit into memory
        try:
            found = Neighbourhood.from_document(documents[name])
        except RecordError as error:
            judgement.error(str(error))
            continue
        if found is None:
            older = True
        else:
            seen.append(found.of_others(owner))
    if older:
        return Judgement.beyond_reach("the record is of a version that did not read this")
    devices = {item.node: item for item in seen}
    learned: dict[str, set[tuple[str, str]]] = {}
    judgement.hold(len(seen))
    for item in seen:
        for entry in item.entries:
            other = devices.get(owner[entry.address])
            if other is None:
                continue  # its own devices are not known
            if entry.mac in other.macs:
                judgement.hold(1)
            elif not entry.permanent:
                learned.setdefault(entry.mac, set()).add((item.node, other.node))
            elif not item.is_neighbour(entry.address):
                continue  # the way to it leads elsewhere
            elif (why := _laid(item, entry, owner)) is None:
                _stale(judgement, item, entry, other, devices)
            else:
                judgement.remark(f"{item.node}: what it sends to {other.node} ({entry.address}) goes to {entry.mac}: {why}")
        if item.total > item.looked_at:
            judgement.remark(f"{item.node}: {item.looked_at} of {item.total} neighbour entries were looked at")
    for mac, pairs in sorted(learned.items()):
        sources, targets = (", ".join(sorted({pair[place] for pair in pairs})[:_NAMED]) for place in (0, 1))
        judgement.remark(
            f"{sources} learned that {targets} is at {mac}, which is none of its devices: proxy ARP, or another machine has its address "
            "(NET-REACH-008)"
        )
    return judgement


def _laid(item: Neighbourhood, entry: Entry, owner: Mapping[str, str]) -> str | None:
    """Return what else than a mistake leads a permanent entry to a hardware address that is not the node's; None when nothing is known."""
    if entry.mac.startswith(VRRP):
        return "it is a virtual router's (VRRP)"
    if any(mac == entry.mac for address, mac in item.gateways.items() if address not in owner):
        return "it is that of a gateway"
    same = {other.address for other in item.entries if other.mac == entry.mac and other.permanent}
    return f"so does what it sends to {len(same) - 1} other nodes" if len(same) > 1 else None


def _stale(judgement: Judgement, item: Neighbourhood, entry: Entry, other: Neighbourhood, devices: Mapping[str, Neighbourhood]) -> None:
    whose = next((f"{name}'s" for name, node in devices.items() if entry.mac in node.macs), None)
    is_whose = "no node's" if whose is None else whose
    judgement.check(
        False,
        f"{item.node}: its neighbour entry for {other.node} ({entry.address}) is PERMANENT with {entry.mac}, which is {is_whose}, and "
        f"{other.node}'s {other.uplink} has {other.uplink_mac}: what it sends there is lost",
        measured=entry.mac,
        wanted=other.uplink_mac,
        command=f"ip neigh show {entry.address}",
    )


def own_address(record: DuplicatesRecord) -> Judgement:
    """Judge that no other machine answers ARP for the node's own address.

    A probe without a sender is answered as any other question (RFC 5227, 2.1.1), and changes nobody's table.
    """
    if record.absent is not None:
        return Judgement.skipped(f"{record.node}: {record.absent}")
    judgement = Judgement(want="nobody else who answers for the node's own address (built-in)")
    judgement.evidence.update(address=record.address, heard_by={name: [*macs] for name, macs in record.heard_by.items()})
    command = f"arping -D -I {record.device} -c 3 {record.address}"
    for stranger in record.strangers:
        hearing = sorted(name for name, macs in record.heard_by.items() if stranger.mac in macs)
        if (why := _explained(record, stranger, hearing)) is not None:
            judgement.remark(f"{record.node}: {stranger.mac} answers for its address {record.address} to {', '.join(hearing)}: {why}")
            continue
        whose = "no node's" if stranger.node is None else f"{stranger.node}'s"
        judgement.check(
            False,
            f"{record.node}: two machines answer ARP for its address {record.address}: {record.mac} (its {record.device}) and "
            f"{stranger.mac} ({whose}), heard by {', '.join(hearing)}, want it alone: others send to whichever answers first",
            measured=stranger.mac,
            wanted=record.mac,
            command=command,
        )
    itself = [name for name, macs in record.heard_by.items() if name != record.node and set(macs) & set(record.macs)]
    answered = [address for address, count in record.controls.items() if count]
    judgement.hold(len(itself) + len(answered))
    if judgement.checked:
        return judgement
    if not record.controls:
        return Judgement.skipped(f"{record.node}: no other node is in its subnet {ipaddress.ip_interface(record.network).network}")
    return Judgement.beyond_reach(
        f"{record.node}: nobody answers an ARP probe for {', '.join(record.controls)} either, which are nodes' addresses: this network "
        "carries none, and another machine would not be heard"
    )


def _explained(record: DuplicatesRecord, stranger: Stranger, hearing: Sequence[str]) -> str | None:
    """Return why an answer that is not the node's is no second machine's; None when nothing says so."""
    if stranger.mac.startswith(VRRP):
        return "it is a virtual router's (VRRP)"
    if stranger.mac in record.routers:
        return "it is that of a gateway (proxy ARP)"
    if stranger.node is not None:
        return None
    if stranger.addresses > 1:
        return f"it answers for {stranger.addresses} nodes' addresses (proxy ARP)"
    itself = {name for name, macs in record.heard_by.items() if set(macs) & set(record.macs)}
    if record.node not in hearing and not itself:
        return "it answers in the node's stead, which is not heard itself: its hardware address is translated on the way"
    return None
