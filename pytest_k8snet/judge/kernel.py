"""Judge the kernel's tuning: sysctls of nodes and of pods told apart, and what is really in force on the uplink and in sockets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Any

from pytest_k8snet.cluster.claims.cilium import NAME as CILIUM
from pytest_k8snet.cluster.model import Node
from pytest_k8snet.expect.model import KernelExpectation, SysctlWant
from pytest_k8snet.expect.namespaces import reach
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.facts import NetNamespace, NodeFacts

_CONGESTION_CONTROL = "net.ipv4.tcp_congestion_control"
_OVN_PORT = "ovn-k8s-mp0"  # of the node itself
_IPV6 = 6
_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
PODS_PACE_SINCE = (5, 18)  # cilium Documentation/network/kubernetes/bandwidth-manager.rst

_STRICT = 1
_MARTIANS = "net.ipv4.conf.all.log_martians"
_CONNTRACK = "net.netfilter.nf_conntrack_"
_CONNTRACK_FACTS = {f"{_CONNTRACK}max": "max", f"{_CONNTRACK}buckets": "buckets", f"{_CONNTRACK}count": "count"}

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
    in_pods = {want.key for want in expect.pod_sysctls}
    for want in wants:
        _check(judgement, facts.node, facts.host.sysctls, want)
        if not expect.advice and want.key not in in_pods and reach(want.key) == "own":
            judgement.advise(
                f"{facts.node}: {want.key} of the node does not reach pods, which start with the kernel's own value; what is wanted there "
                "goes below kernel.sysctl.pod"
            )
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
    return judgement


@_unless_only_advised(_NO_QDISC)
def qdisc(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge the leaf queueing disciplines of the uplink, not the sysctl: default_qdisc counts only when a device is made.

    A multiqueue NIC keeps ``mq`` at its root and has the leaves below [Linux Documentation/admin-guide/sysctl/net.rst]. Bonds, bridges and
    VLANs hold no packets (noqueue): the hardware below them is looked at, which of Open vSwitch's ports is known where there is one alone.
    """
    if expect.qdisc is None:
        return Judgement.skipped(_NO_QDISC)
    judgement = Judgement(want=f"qdisc {expect.qdisc}")
    if facts.uplink is None:
        judgement.error(f"{facts.node}: no device holds the node's InternalIP")
        return judgement
    link = facts.host.link(facts.uplink)
    if link is not None and link.kind == "openvswitch" and not facts.hardware_below(facts.uplink):
        judgement.inconclusive(
            f"{facts.node}: which hardware is below {facts.uplink} (openvswitch) is not known, and with it whose qdisc is in force"
        )
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
    devices = facts.hardware_below(uplink) or [uplink]
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
        if network is facts.pod and have == "bbr" and release_of(facts.kernel, unknown=PODS_PACE_SINCE) < PODS_PACE_SINCE:
            judgement.advise(
                f"{who}: bbr on kernel {facts.kernel}: before 5.18 the times at which packets are to leave do not outlast the way out of "
                "a pod, and fq on the uplink does not pace them"
            )
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
    return judgement


def forwarding(facts: NodeFacts, expect: KernelExpectation, families: Collection[int]) -> Judgement:
    """Judge that the node forwards packets of every address family that pods use (4, 6): without it no pod reaches another node's.

    What a profile says of a family that pods do not use is judged as well: no other check does. Under OVN-Kubernetes only its own devices
    have to forward: on OpenShift ip_forward is 0 by default (ipForwarding Restricted; its docs/getting-started/configuration.md).
    """
    by_ovn = facts.host.link(_OVN_PORT) is not None
    judgement = Judgement(want="forwarding on (built-in)")
    wanted = {} if expect.advice else {want.key: want for want in expect.host_sysctls}
    for family, key in _FORWARDING.items():
        if family not in families and key not in wanted:
            continue
        if by_ovn and key not in wanted and (family != _IPV6 or facts.host.sysctls.get(key) == "0"):
            if family == _IPV6:
                judgement.hold(1)  # it was read, and is no fault: where pods have IPv6 alone nothing else is looked at
                judgement.advise(
                    f"{facts.node}: {key} 0: pods' packets go by OVS past the kernel, and what the node's own routes carry between them "
                    "and others over IPv6 is lost"
                )
            continue
        want = wanted.get(key, SysctlWant(key, "=", "1", "built-in"))
        _check(judgement, facts.node, facts.host.sysctls, want)
    # ip_forward sets every device's own; one that was set back since drops what comes in by it (net/ipv4/route.c, IN_DEV_FORWARD).
    # Cilium's programs may forward without asking it.
    devices = [facts.uplink.replace(".", "/")] if facts.uplink is not None and facts.host.link("cilium_host") is None else []
    for device in [*devices, *([_OVN_PORT] if by_ovn else [])] if 4 in families else ():
        own = f"net.ipv4.conf.{device}.forwarding"
        if facts.host.sysctls.get(own) is not None or (by_ovn and device != _OVN_PORT):
            _check(judgement, facts.node, facts.host.sysctls, SysctlWant(own, "=", "1", "built-in"))
    return judgement


def persisted(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge what the next boot gives: the wanted sysctls, and of those that nobody wants but a file assigns what is in force now.

    Only a profile that says ``persisted: required`` makes faults of it: Talos, Bottlerocket and operators keep values elsewhere.
    """
    if facts.running is None:
        return Judgement.beyond_reach("the recording is older than the comparison of files with the values in force")
    required = expect.persisted
    judgement = Judgement(want="sysctls that outlast a reboot" + (f" ({required.origin})" if required else ""))
    if "persisted" in facts.errors:
        judgement.error(f"{facts.node}: the sysctl.d files were not read{facts.why('persisted')}")
    else:
        wants = [] if expect.advice else _wanted_at_boot(facts, expect)
        for want in wants:
            _check_at_boot(judgement, facts, want)
        _check_drift(judgement, facts, {want.key for want in wants})
        if not judgement.findings and not judgement.checked:
            return Judgement.skipped("no profile wants a sysctl, and no file of the node assigns one of networks")
    return judgement if required else judgement.only_advice("no profile requires sysctls to be persisted (kernel.persisted)")


def _wanted_at_boot(facts: NodeFacts, expect: KernelExpectation) -> list[SysctlWant]:
    wants = {want.key: want for want in expect.host_sysctls}
    if (wanted := expect.congestion_control) is not None:
        wants.setdefault(_CONGESTION_CONTROL, SysctlWant(_CONGESTION_CONTROL, "=", wanted.value, wanted.origin))
    if facts.kube_proxy.conntrack is not None and facts.kube_proxy.conntrack.max_per_core > 0:
        wants.pop(f"{_CONNTRACK}max", None)  # kube-proxy sets it at its start, whatever a file says: NET-CONNTRACK-003 judges that
    return [*wants.values()]


def _check_at_boot(judgement: Judgement, facts: NodeFacts, want: SysctlWant) -> None:
    assigned = facts.at_boot(want.key)
    value = None if assigned is None else assigned.value
    if assigned is None or value is None:
        text = f"{want.key} is in no sysctl.d file: it may be lost at the next boot"
    else:
        text = f"{assigned.file}:{assigned.line} sets {want.key} to {value} at the next boot"
    judgement.check(
        value is not None and holds(value, want),
        f"{facts.node}: {text}, want {want}",
        measured=value,
        wanted=f"{want.operator} {want.value}",
        command="systemd-analyze cat-config sysctl.d",
    )


def _check_drift(judgement: Judgement, facts: NodeFacts, wanted: Collection[str]) -> None:
    for key, running in sorted((facts.running or {}).items()):
        assigned = facts.at_boot(key)
        if key in wanted or key in _FORWARDING.values() or assigned is None or assigned.value is None:
            continue
        if key == f"{_CONNTRACK}max" and facts.kube_proxy.conntrack is not None and facts.kube_proxy.conntrack.max_per_core > 0:
            continue
        judgement.check(
            _same(running, assigned.value),
            f"{facts.node}: {key} is {running}, {assigned.file}:{assigned.line} makes it {assigned.value} at the next boot",
            measured=running,
            wanted=assigned.value,
            command=f"sysctl {key}",
        )


def _same(running: str, assigned: str) -> bool:
    """Whether the kernel writes `running` for what a file assigns: it joins neighbouring ports of a list."""
    if running.split() == assigned.split():
        return True
    try:
        return "," in running + assigned and _ports(running) == _ports(assigned)
    except ValueError:
        return False


def modules(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge that modules are at work in the kernel, loaded or built in; without a wanted one, tell what a bridge CNI lacks."""
    if facts.modules is None:
        return Judgement.beyond_reach("the recording is older than the reading of modules")
    judgement = Judgement(want=None if expect.modules is None else f"modules {', '.join(expect.modules.value)} ({expect.modules.origin})")
    judgement.evidence["modules"] = sorted(facts.modules)
    # Two pods of a node behind one bridge answer each other past the node's own rules, and the address of a Service is never put back.
    if facts.bridges_pods and "br_netfilter" not in facts.modules and facts.modules_built_in:
        judgement.advise(
            f"{facts.node}: pods are ports of a bridge and br_netfilter is not loaded: a pod that asks a Service whose endpoint is on its "
            "own node gets no usable answer",
            command="lsmod",
        )
    if expect.modules is None:
        judgement.skip_reason = "no profile names modules"
        return judgement
    for name in expect.modules.value:
        if name.replace("-", "_") not in facts.modules and not facts.modules_built_in:
            judgement.inconclusive(
                f"{facts.node}: the module {name} is not loaded, and whether it is built in is not known: the node has no list of such "
                f"modules, want it ({expect.modules.origin})",
                command=f"cat /lib/modules/{facts.kernel}/modules.builtin",
            )
            continue
        judgement.check(
            name.replace("-", "_") in facts.modules,
            f"{facts.node}: the module {name} is neither loaded nor built in, want it ({expect.modules.origin})",
            measured="absent",
            wanted=name,
            command=f"lsmod | grep {name}; grep {name} /lib/modules/{facts.kernel}/modules.builtin",
        )
    return judgement


def reverse_path(facts: NodeFacts, cni: str | None) -> Judgement:
    """Judge that the reverse path filter is not strict where the CNI lets packets come in by another device than answers leave by.

    The kernel takes the larger of ``all`` and the device's own value (0 none, 1 strict, 2 loose).
    """
    devices = _asymmetric(facts, cni)
    if not devices:
        judgement = Judgement.skipped(f"nothing is known of CNI {cni or 'unknown'} that a strict reverse path filter would break")
        if facts.uplink is not None and _filter(facts, facts.uplink) == _STRICT and facts.host.sysctls.get(_MARTIANS) == "0":
            judgement.advise(
                f"{facts.node}: the reverse path filter is strict on {facts.uplink} and {_MARTIANS} is 0: what it drops is told nowhere",
                command=f"sysctl {_MARTIANS}",
            )
        return judgement
    judgement = Judgement(want=f"no strict reverse path filter on {', '.join(devices)} ({cni})")
    for device, why in devices.items():
        have = _filter(facts, device)
        command = f"sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.{device}.rp_filter"
        if have is None:
            judgement.error(f"{facts.node}: the reverse path filter of {device} was not measured", command=command)
            continue
        judgement.check(
            have != _STRICT,
            f"{facts.node}: the reverse path filter is strict on {device}, want it loose or off: {why}",
            measured=have,
            wanted="0 or 2",
            command=command,
        )
    return judgement


def _asymmetric(facts: NodeFacts, cni: str | None) -> dict[str, str]:
    """Return the devices by which a CNI lets packets come in whose answers leave by others, and why."""
    if cni == CILIUM and facts.host.link("cilium_host") is not None:
        return {"cilium_host": "Cilium brings packets to it that the routing table would send elsewhere (claim CNI cilium)"}
    if cni == "aws-vpc-cni" and facts.uplink is not None:
        return {facts.uplink: "pods with addresses of other network interfaces answer NodePorts by it (claim CNI aws-vpc-cni)"}
    return {}


def _filter(facts: NodeFacts, device: str) -> int | None:
    key = f"net.ipv4.conf.{device.replace('.', '/')}.rp_filter"
    values = [facts.host.sysctls.get(name) for name in ("net.ipv4.conf.all.rp_filter", key)]
    numbers = [int(value) for value in values if value is not None]
    return max(numbers) if len(numbers) == len(values) else None


def pod_families(node: Node) -> set[int]:
    """Return the address families (4, 6) of a node's pods: those of its pod ranges, else (EKS, Cilium) that of its InternalIP."""
    addresses = node.pod_cidrs or ((node.internal_ip,) if node.internal_ip else ())
    return {ipaddress.ip_interface(address).version for address in addresses} or {4}


def release_of(version: str, *, unknown: tuple[int, int]) -> tuple[int, int]:
    """Return the first two numbers of a version (``6.1.176``), `unknown` when it does not start with them."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else unknown


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
        have is not None and holds(have, want),
        f"{who}: {want.key} {told}, want {want}",
        measured=have,
        wanted=f"{want.operator} {want.value}",
        command=f"sysctl {want.key}",
    )


def holds(have: str, want: SysctlWant) -> bool:
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


def _leaves(qdiscs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the kinds of the disciplines at the leaves of one device's tree; ingress and clsact hold no packets."""
    tree = [item for item in qdiscs if item.get("kind") not in ("ingress", "clsact")]
    below = [item for item in tree if not item.get("root")]
    # A discipline that was not given a handle has "0:", and mq's queues are then ":1", ":2", ...: those name no parent.
    parents = {str(item.get("parent", "")).partition(":")[0] for item in below} - {""}
    return [str(item["kind"]) for item in below or tree if str(item.get("handle", "")).partition(":")[0] not in parents]
