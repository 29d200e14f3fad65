"""Judge the kernel's tuning: sysctls of nodes and of pods told apart, and what is really in force on the uplink and in sockets."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Any

from pytest_k8snet.cluster.model import Node
from pytest_k8snet.expect.model import KernelExpectation, SysctlWant
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.facts import NetNamespace, NodeFacts, Persisted

_CONGESTION_CONTROL = "net.ipv4.tcp_congestion_control"
_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_CONNTRACK = "net.netfilter.nf_conntrack_"
_CONNTRACK_FACTS = {f"{_CONNTRACK}max": "max", f"{_CONNTRACK}buckets": "buckets", f"{_CONNTRACK}count": "count"}

#: Share of the connection table from which on it is worth a look.
_NEARLY_FULL = 0.8

_NO_HOST_SYSCTL = "no profile wants a sysctl on nodes"
_NO_POD_SYSCTL = "no profile wants a sysctl in pods"
_NO_QDISC = "no profile wants a queueing discipline"
_NO_CONGESTION_CONTROL = "no profile wants a congestion control"
_NO_CONNTRACK = "no profile wants a size of the connection table"

_Judge = Callable[[NodeFacts, KernelExpectation], Judgement]


def _unless_only_advised(reason: str) -> Callable[[_Judge], _Judge]:
    """Let a judge of tuning skip with `reason`, and what it finds be advice, where the tuning is only what tuned-node would want."""

    def decorate(judge: _Judge) -> _Judge:
        @wraps(judge)
        def judged(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
            judgement = judge(facts, expect)
            return judgement.only_advice(reason) if expect.advice and judgement.skip_reason is None else judgement

        return judged

    return decorate


@_unless_only_advised(_NO_HOST_SYSCTL)
def host_sysctls(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge the sysctls of the node's own network namespace, less those that a check of their own judges."""
    wants = [want for want in expect.host_sysctls if not _judged_elsewhere(want, expect)]
    if not wants:
        return Judgement.skipped(_NO_HOST_SYSCTL)
    judgement = Judgement(want=f"{len(wants)} sysctls on the node")
    for want in wants:
        _check(judgement, facts.node, facts.host.sysctls, want)
        if not expect.advice:
            _advise_persisted(judgement, facts, want)
    return judgement


@_unless_only_advised(_NO_POD_SYSCTL)
def pod_sysctls(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge the sysctls of the probe pod's network namespace: a new one inherits few of the node's values.

    Of those that profiles usually want only tcp_rmem, tcp_wmem, tcp_congestion_control and conf/* are copied from the node when the
    namespace is made; somaxconn, ip_local_port_range, tcp_tw_reuse and the rest start with the kernel's defaults (measured on 6.18).
    """
    if not expect.pod_sysctls:
        return Judgement.skipped(_NO_POD_SYSCTL)
    if facts.pod_absent is not None:
        return Judgement.beyond_reach(facts.pod_absent)
    judgement = Judgement(want=f"{len(expect.pod_sysctls)} sysctls in pods")
    if facts.pod is None:
        judgement.error(f"{facts.node}: the probe pod was not measured: {facts.pod_error or 'no reason recorded'}")
        return judgement
    for want in expect.pod_sysctls:
        _check(judgement, f"{facts.node}: probe pod", facts.pod.sysctls, want)
        different = [
            f"{pod.name} {value}"
            for pod in facts.existing_pods
            if (value := pod.network.sysctls.get(want.key)) is not None and not _holds(value, want)
        ]
        if different:
            judgement.remark(
                f"{facts.node}: {len(different)} pods that were there before have another {want.key} "
                f"({'; '.join(different[:3])}), want {want}"
            )
    return judgement


@_unless_only_advised(_NO_QDISC)
def qdisc(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge the leaf queueing disciplines of the uplink, not the sysctl: default_qdisc counts only when a device is made.

    A multiqueue NIC keeps ``mq`` at its root and has the leaves below [Linux Documentation/admin-guide/sysctl/net.rst]. Bonds, bridges and
    VLANs hold no packets (noqueue): the hardware below them is looked at.
    """
    if expect.qdisc is None:
        return Judgement.skipped(_NO_QDISC)
    judgement = Judgement(want=f"qdisc {expect.qdisc}")
    if facts.uplink is None:
        judgement.error(f"{facts.node}: no device holds the node's InternalIP")
        return judgement
    for device, leaves in leaf_qdiscs(facts, facts.uplink).items():
        command = f"tc -j qdisc show dev {device}"
        if not leaves:
            judgement.error(f"{facts.node}: no qdisc of {device} was measured{facts.why('qdiscs')}", command=command)
        for kind in sorted(set(leaves)):
            judgement.check(
                kind == expect.qdisc.value,
                f"{facts.node}: {device} qdisc {kind} in force, want {expect.qdisc}",
                measured=kind,
                wanted=expect.qdisc.value,
                command=command,
            )
    return judgement


def leaf_qdiscs(facts: NodeFacts, uplink: str) -> dict[str, list[str]]:
    """Return for each device that packets to the uplink leave by the kinds of its leaf queueing disciplines."""
    devices = _hardware(facts, uplink) or [uplink]
    return {device: _leaves([item for item in facts.qdiscs if item.get("dev") == device]) for device in devices}


@_unless_only_advised(_NO_CONGESTION_CONTROL)
def congestion_control(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge what a fresh TCP socket really uses, on the node and in the probe pod (which copies the node's when it is made)."""
    if expect.congestion_control is None:
        return Judgement.skipped(_NO_CONGESTION_CONTROL)
    want = expect.congestion_control
    judgement = Judgement(want=f"congestion control {want}")
    subjects: list[tuple[str, NetNamespace | None, str | None]] = [(facts.node, facts.host, None)]
    if facts.pod_absent is None:
        subjects.append((f"{facts.node}: probe pod", facts.pod, facts.pod_error))
    else:
        judgement.remark(f"{facts.node}: judged on the node only: {facts.pod_absent}")
    for who, network, problem in subjects:
        have = network.congestion_control if network else None
        if have is None:
            judgement.error(f"{who}: the congestion control of a fresh socket was not measured{f': {problem}' if problem else ''}")
            continue
        judgement.check(
            have == want.value,
            f"{who}: a fresh TCP socket uses {have}, want {want}",
            measured=have,
            wanted=want.value,
            command="getsockopt(TCP_CONGESTION)" if facts.agent == "python" else f"sysctl {_CONGESTION_CONTROL}",
        )
    if not expect.advice:
        _advise_persisted(judgement, facts, SysctlWant(_CONGESTION_CONTROL, "=", want.value, want.origin))
    return judgement


@_unless_only_advised(_NO_CONNTRACK)
def conntrack(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge size and hash size of the connection table. Its absence means that nothing uses it (nftables or eBPF only), not zero."""
    have = facts.conntrack
    limit, count, buckets = have.get("max"), have.get("count"), have.get("buckets")
    if limit is None:
        return Judgement.skipped("connection tracking is not in use on this node")
    wants = [want for want in expect.host_sysctls if want.key.startswith(_CONNTRACK)]
    judgement = Judgement(want=", ".join(f"{want.key} {want}" for want in wants) or None)
    judgement.evidence.update(count=count, max=limit, buckets=buckets)
    values = {key: None if have.get(name) is None else str(have[name]) for key, name in _CONNTRACK_FACTS.items()}
    for want in wants:
        _check(judgement, facts.node, {**facts.host.sysctls, **values}, want)
    if not wants:
        judgement.skip_reason = _NO_CONNTRACK
    if count is not None and count > _NEARLY_FULL * limit:
        judgement.advise(f"{facts.node}: {count} of {limit} entries of the connection table are in use: when it is full, packets are lost")
    # kube-proxy raises the hash to a quarter of the table (SetMax, pkg/proxy/conntrack/sysctls.go); longer chains cost time per packet.
    if buckets and limit > 4 * buckets:
        judgement.advise(f"{facts.node}: {limit / buckets:.0f} connections per hash bucket when the table is full, 4 at most is usual")
    return judgement


def forwarding(facts: NodeFacts, expect: KernelExpectation, families: Collection[int]) -> Judgement:
    """Judge that the node forwards packets of every address family that pods use (4, 6): without it no pod reaches another node's.

    What a profile says of a family that pods do not use is judged as well: no other check does.
    """
    judgement = Judgement(want="forwarding on (built-in)")
    wanted = {} if expect.advice else {want.key: want for want in expect.host_sysctls}
    for family, key in _FORWARDING.items():
        if family not in families and key not in wanted:
            continue
        want = wanted.get(key, SysctlWant(key, "=", "1", "built-in"))
        _check(judgement, facts.node, facts.host.sysctls, want)
        _advise_persisted(judgement, facts, want)
    # ip_forward sets every device's own; one that was set back since drops what comes in by it (net/ipv4/route.c, IN_DEV_FORWARD).
    # Cilium's programs may forward without asking it.
    own = f"net.ipv4.conf.{facts.uplink}.forwarding"
    if 4 in families and facts.host.sysctls.get(own) is not None and facts.host.link("cilium_host") is None:
        _check(judgement, facts.node, facts.host.sysctls, SysctlWant(own, "=", "1", "built-in"))
    return judgement


def pod_families(node: Node) -> set[int]:
    """Return the address families (4, 6) of a node's pods: those of its pod ranges, else (EKS, Cilium) that of its InternalIP."""
    addresses = node.pod_cidrs or ((node.internal_ip,) if node.internal_ip else ())
    return {ipaddress.ip_interface(address).version for address in addresses} or {4}


def _judged_elsewhere(want: SysctlWant, expect: KernelExpectation) -> bool:
    if want.key == _CONGESTION_CONTROL:
        return expect.congestion_control is not None and expect.congestion_control.value == want.value
    return want.key.startswith(_CONNTRACK) or want.key in _FORWARDING.values()


def _check(judgement: Judgement, who: str, values: Mapping[str, str | None], want: SysctlWant) -> None:
    if want.key not in values:
        judgement.error(f"{who}: {want.key} was not measured", command=f"sysctl {want.key}")
        return
    have = values[want.key]
    told = "is not known to this kernel" if have is None else " ".join(have.split()) or "(empty)"
    judgement.check(
        have is not None and _holds(have, want),
        f"{who}: {want.key} {told}, want {want}",
        measured=have,
        wanted=f"{want.operator} {want.value}",
        command=f"sysctl {want.key}",
    )


def _holds(have: str, want: SysctlWant) -> bool:
    """Whether a value in the kernel's notation is what is wanted; fields may be apart by tabs or blanks."""
    if want.operator == "covers":
        try:
            ranges = _ports(have)
        except ValueError:
            return False
        return all(any(first <= low and high <= last for first, last in ranges) for low, high in _ports(want.value))
    if want.operator == "=":
        return have.split() == want.value.split()
    try:
        number = int(have)
    except ValueError:
        return False
    return number >= int(want.value) if want.operator == ">=" else number <= int(want.value)


def _ports(text: str) -> list[tuple[int, int]]:
    """Return the ranges of a port list; neighbours are joined, as the kernel writes them."""
    ranges: list[tuple[int, int]] = []
    for part in sorted(
        (int(first), int(last or first)) for first, _, last in (item.partition("-") for item in text.strip().split(",") if item)
    ):
        if ranges and part[0] <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], part[1]))
        else:
            ranges.append(part)
    return ranges


def _advise_persisted(judgement: Judgement, facts: NodeFacts, want: SysctlWant) -> None:
    """Note what the next boot will do. Advice only: Talos, Bottlerocket and operators keep such values elsewhere."""
    if "persisted" in facts.errors:
        judgement.remark(
            f"{facts.node}: the sysctl.d files were not read ({facts.errors['persisted']}): the next boot may reset {want.key}"
        )
        return
    assignments: list[Persisted] = [item for item in facts.persisted if want.key in (item.key, item.key.replace("/", "."))]
    if not assignments:
        judgement.advise(f"{facts.node}: {want.key} is in no sysctl.d file: it may be lost at the next boot")
    elif not _holds(assignments[-1].value, want):
        last = assignments[-1]
        judgement.advise(f"{facts.node}: {last.file}:{last.line} sets {want.key} to {last.value} at the next boot, want {want}")


def _hardware(facts: NodeFacts, device: str) -> list[str]:
    """Return the hardware that packets to `device` leave by when it only stands for other devices, nothing when it does not."""
    link = facts.host.link(device)
    below = [member.name for member in facts.host.links if member.master == device]
    if link is not None and link.lower is not None and link.kind in ("vlan", "macvlan", "ipvlan"):
        below.append(link.lower)
    found = [_hardware(facts, name) or ([name] if name in facts.physical else []) for name in below]
    return sorted({name for names in found for name in names})


def _leaves(qdiscs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the kinds of the disciplines at the leaves of one device's tree; ingress and clsact hold no packets."""
    tree = [item for item in qdiscs if item.get("kind") not in ("ingress", "clsact")]
    below = [item for item in tree if not item.get("root")]
    # A discipline that was not given a handle has "0:", and mq's queues are then ":1", ":2", ...: those name no parent.
    parents = {str(item.get("parent", "")).partition(":")[0] for item in below} - {""}
    return [str(item["kind"]) for item in below or tree if str(item.get("handle", "")).partition(":")[0] not in parents]
