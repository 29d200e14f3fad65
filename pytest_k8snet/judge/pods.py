"""Judge pods that were there before the run, seen from the node: fresh probe pods hide what old pods have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pytest_k8snet.expect.model import KernelExpectation, SysctlWant
from pytest_k8snet.judge.kernel import holds
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.facts import ExistingPod, NodeFacts

_FEW = 3  # names in a message
_NOBODY = "no other pod with a network of its own runs on this node"


def sysctls(facts: NodeFacts, expect: KernelExpectation) -> Judgement:
    """Judge the sysctls in the network namespaces of pods that were there before.

    They keep what they were made with: a tuning plugin that came later, and the node's values that are copied (tcp_rmem, congestion
    control), reach only pods that are made afterwards.
    """
    if not expect.pod_sysctls:
        return Judgement.skipped("no profile wants a sysctl in pods")
    judgement = _judgement(facts, f"{len(expect.pod_sysctls)} sysctls in pods")
    for want in expect.pod_sysctls if facts.existing_pods else ():
        _check(
            judgement,
            facts,
            [pod for pod in facts.existing_pods if want.key in pod.network.sysctls],
            partial(_wrong, want),
            f"another {want.key}",
            str(want),
            f"nsenter --net=/proc/PID/ns/net sysctl {want.key}",
        )
    return judgement.only_advice("no profile wants a sysctl in pods") if expect.advice and judgement.skip_reason is None else judgement


def _wrong(want: SysctlWant, pod: ExistingPod) -> str | None:
    have = pod.network.sysctls[want.key]
    return None if have is not None and holds(have, want) else "unknown there" if have is None else " ".join(have.split()) or "(empty)"


def routes(facts: NodeFacts) -> Judgement:
    """Judge that pods that were there before have a route that leads beyond their own range, by a device that is up.

    A pod with more devices than its CNI's is its own affair. One whose devices are up and that has no route at all keeps its address and
    its routes elsewhere: gVisor takes them into its own stack (runsc/sandbox/network.go), KubeVirt's bridge binding into the guest.
    """
    judgement = _judgement(facts, "a default route in pods (built-in)")
    with_devices = [pod for pod in facts.existing_pods if any(link.name != "lo" for link in pod.network.links)]
    without = len(facts.existing_pods) - len(with_devices)
    if without:
        judgement.remark(f"{facts.node}: {without} pods have no device but lo in their network namespace, not judged")
    judged = [pod for pod in with_devices if not _keeps_routes_elsewhere(pod)]
    if elsewhere := [pod.name for pod in with_devices if pod not in judged]:
        judgement.remark(
            f"{facts.node}: {len(elsewhere)} pods have a device that is up and no route at all, as those of gVisor and of virtual machines "
            f"have it, not judged: {', '.join(elsewhere[:_FEW])}{', ...' if len(elsewhere) > _FEW else ''}"
        )
    if facts.existing_pods and not judged:
        judgement.skip_reason = f"no other pod on this node has a {'route' if with_devices else 'device'} in its network namespace"
    elif judged:
        _check(
            judgement,
            facts,
            judged,
            _no_way_out,
            "no way out",
            "a default route (built-in)",
            "nsenter --net=/proc/PID/ns/net ip route",
        )
    return judgement


def _keeps_routes_elsewhere(pod: ExistingPod) -> bool:
    return not pod.network.routes and any(link.up for link in pod.network.links if link.name != "lo")


def _no_way_out(pod: ExistingPod) -> str | None:
    defaults = [route for route in pod.network.routes if route.dst == "default"]
    if not defaults:
        return "no default route"
    down = [route.dev for route in defaults if (link := pod.network.link(route.dev)) is None or not link.up]
    return f"{down[0]} is down" if len(down) == len(defaults) else None


def _judgement(facts: NodeFacts, want: str) -> Judgement:
    """Return a judgement that has told how many pods were looked at, or why none was."""
    judgement = Judgement(want=want)
    if "existing_pods" in facts.errors:
        judgement.error(f"{facts.node}: the pods that were there before were not looked at{facts.why('existing_pods')}")
    elif not facts.existing_pods and facts.existing_pods_running:
        judgement.skip_reason, judgement.unsupported = f"none of {facts.existing_pods_running} pods was looked at", True
    elif not facts.existing_pods:
        judgement.skip_reason = _NOBODY
    elif len(facts.existing_pods) < facts.existing_pods_running:
        judgement.remark(f"{facts.node}: {_looked_at(facts)}")
    judgement.evidence.update(pods=len(facts.existing_pods), running=facts.existing_pods_running)
    return judgement


def _check(
    judgement: Judgement,
    facts: NodeFacts,
    pods: list[ExistingPod],
    wrong: Callable[[ExistingPod], str | None],
    what: str,
    wanted: str,
    command: str,
) -> None:
    """Check pods one by one, and tell all that are wrong in one message."""
    found = [(pod.name, problem) for pod in pods if (problem := wrong(pod)) is not None]
    judgement.hold(len(pods) - len(found))
    if not pods:
        judgement.error(f"{facts.node}: {what}: was not measured in any pod", command=command)
    if found:
        told = "; ".join(f"{name} {problem}" for name, problem in found[:_FEW]) + (
            f"; and {len(found) - _FEW} more" if found[_FEW:] else ""
        )
        judgement.check(
            False,
            f"{facts.node}: {len(found)} pods that were there before have {what} ({told}), want {wanted}; {_looked_at(facts)}",
            measured=told,
            wanted=wanted,
            command=command,
        )


def _looked_at(facts: NodeFacts) -> str:
    return f"{len(facts.existing_pods)} of {facts.existing_pods_running} pods were looked at"
