"""Begin a profile from a recorded run: what its nodes showed, in the keys of a profile, each value with the nodes it was read from."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_k8snet.access.replay import ReplayBackend
from pytest_k8snet.errors import K8sNetError, RecordError
from pytest_k8snet.expect.begin import Readings, begun_text
from pytest_k8snet.expect.model import CROSS_SUBNET, DnsExpectation, Wanted
from pytest_k8snet.expect.profile import Profile, load_profiles
from pytest_k8snet.expect.resolve import TUNED, resolve
from pytest_k8snet.expect.source import Location, ProfileFile, parse
from pytest_k8snet.expect.validate import validate
from pytest_k8snet.judge.dns import servers
from pytest_k8snet.judge.model import Verdict
from pytest_k8snet.judge.observed import Unread, fits_between_subnets, observe
from pytest_k8snet.plan import Plan
from pytest_k8snet.record.facts import NodeFacts
from pytest_k8snet.record.recording import Recording
from pytest_k8snet.record.store import PLAN, RunFolder
from pytest_k8snet.record.throughput import ThroughputRecord


def begin_profile(recording: Recording, own: Profile | None, name: str) -> str:
    """Return the text of a profile called `name` that wants what the nodes of a recorded run had; `own` is the profile of that run.

    Raises `RecordError` when the recording has no node's facts.
    """
    cluster = ReplayBackend(recording.run, recording.read_json, str(recording.path)).read_cluster()
    plan = _plan(recording)
    host, pod = _sysctls(own)
    readings: dict[Location, Readings] = {}
    unread: dict[str, str] = {}
    addresses = {node.name: node.addresses for node in cluster.nodes}
    with _folder(recording) as folder:
        for node in plan.nodes:
            try:
                seen = observe(_facts(folder, node), host, pod, addresses)
            except K8sNetError as error:
                unread[node] = str(error).removeprefix(f"{node}: ")
                continue
            for at, value in seen.items():
                found = readings.setdefault(at, Readings())
                if isinstance(value, Unread):
                    found.miss(node, value.why)
                else:
                    found.add(node, value)
        _join_subnets(readings.get(("encapsulation",), Readings()), folder, addresses)
        rates = _host_rates(folder, plan.load_pairs)
    measured = len(plan.nodes) - len(unread)
    if not measured:
        reasons = "; ".join(f"{node}: {why}" for node, why in unread.items()) or "it has no nodes"
        raise RecordError(f"the recording of run {recording.run.id} has no facts of any node: {reasons}")
    head = [
        f"Begun by `k8snet profile init` from run {recording.run.id} of {recording.run.at:%Y-%m-%d %H:%M} UTC:",
        f"Kubernetes {cluster.version}, CNI {cluster.cni or 'unknown'}. Behind each value are the nodes that had it then.",
        "It says what is, not what ought to be: take out what you do not care about, and correct what is not as you want it.",
        *(f"{node} was not read: {why}" for node, why in unread.items()),
    ]
    hint = "write what the wire carries, such as 10gbit" + (f" (the best takes between nodes carried {rates})" if rates else "")
    hints: dict[Location, str] = {("throughput", "line_rate"): hint}
    if cluster.dns is not None and cluster.dns.servers:
        ready = [server for server in cluster.dns.servers if server.ready]
        judgement = servers(cluster, DnsExpectation(replicas=Wanted(max(1, len(ready)), "")))
        readings["dns", "replicas"] = Readings()
        if judgement.verdict is Verdict.PASS:
            for node in dict.fromkeys(server.node or "no node" for server in ready):
                readings["dns", "replicas"].add(node, len(ready))
        else:
            hints["dns", "replicas"] = judgement.message
    text = begun_text(head, name, _ordered(readings), cluster.claims, measured, hints)
    draft = parse(ProfileFile(Path(name), text))
    if problems := [*draft.problems, *validate(draft)[1]]:
        raise RecordError(f"the recording of run {recording.run.id}: what its nodes had makes no valid profile: {problems[0]}")
    return text


def _facts(folder: RunFolder, node: str) -> NodeFacts:
    document = folder.get("facts", node)
    if document is None:
        raise RecordError(f"{node}: its facts were not recorded")
    return NodeFacts.from_document(document)


def _join_subnets(found: Readings, folder: RunFolder, addresses: Mapping[str, Collection[str]]) -> None:
    """Let nodes that see only their own subnet, or only others, agree with those that see that packets are encapsulated between subnets."""
    for value in [value for value in found.values if str(value).endswith(CROSS_SUBNET)]:
        kind = str(value).removesuffix(CROSS_SUBNET)
        for other in ("none", kind):
            names = found.values.pop(other, [])
            for node in names:
                fits = fits_between_subnets(_facts(folder, node), kind, addresses)
                found.add(node, value if fits else other)
    for names in found.values.values():
        names.sort()


def _plan(recording: Recording) -> Plan:
    data = recording.read_json(PLAN)
    if data is None:
        raise RecordError(f"the recording of run {recording.run.id} has no plan")
    try:
        return Plan.from_json(data)
    except (KeyError, TypeError) as error:
        raise RecordError(f"{PLAN}: damaged: {error!r}") from error


def _sysctls(own: Profile | None) -> tuple[list[str], list[str]]:
    """Return which sysctls of nodes and of pods a profile speaks of: those that are tuned usually, and those of the run's own profile."""
    host: dict[str, None] = {}
    pod: dict[str, None] = {}
    from pytest_k8snet.cluster.model import Cluster

    nobody = Cluster(version="", nodes=(), claims={}, kube_proxy_daemonsets=(), cni=None)
    for profile in (load_profiles([TUNED]), own):
        if profile is not None:
            kernel = resolve(profile, nobody).common.kernel
            host |= dict.fromkeys(want.key for want in kernel.host_sysctls)
            pod |= dict.fromkeys(want.key for want in kernel.pod_sysctls)
    return [*host], [*pod]


def _ordered(readings: Mapping[Location, Readings]) -> dict[Location, Readings]:
    """Return what is in the same section one after the other, where the section first appears."""
    order: dict[Location, int] = {}
    for at in readings:
        for depth in range(len(at)):
            order.setdefault(at[: depth + 1], len(order))
    return dict(sorted(readings.items(), key=lambda item: [order[item[0][: depth + 1]] for depth in range(len(item[0]))]))


@contextmanager
def _folder(recording: Recording) -> Iterator[RunFolder]:
    """Give the documents of a recording: those of a folder where they are, those of a bundle unpacked for the time."""
    if recording.path.is_dir():
        yield RunFolder(recording.path.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="k8snet-") as path:
        folder = RunFolder(Path(path))
        recording.copy_into(folder)
        yield folder


def _host_rates(folder: RunFolder, pairs: Sequence[str]) -> str | None:
    """Return in words what the host paths of the run carried at best, None when none was measured."""
    rates = []
    for pair in pairs:
        try:
            document = folder.get("throughput", pair)
            if document is not None:
                record = ThroughputRecord.from_document(document)
                rates += [max((take.received_bps or 0.0 for take in record.of("host")), default=0.0)]
        except K8sNetError:
            continue  # it says nothing of the rate
    known = [f"{rate / 10**6:.0f}" for rate in sorted(rates) if rate]
    return f"{' to '.join(dict.fromkeys([known[0], known[-1]]))} Mbit/s of payload" if known else None
