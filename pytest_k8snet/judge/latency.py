"""Judge how long answers take: pods against their nodes in the same minute, and reference points against the profile.

The best take of a path is what the path can do: one among quick ones that is slow was slowed by something that passed. What the host takes
disagree about is not held against the pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pytest_k8snet.expect.model import LatencyExpectation, Wanted
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.latency import Echo, LatencyRecord, Take

_HOW = "TCP request and response on an open connection"
_CUT_OFF = "nothing of this node's pod gets to any other node's: NET-REACH-001 judges that"
_CONNECT = "TCP connect"
Percentile = Literal["p50_ms", "p99_ms"]


def pods_against_hosts(record: LatencyRecord, expect: LatencyExpectation) -> Judgement:
    """Judge whether pods answer pods nearly as fast as their nodes answer each other."""
    if record.pod_absent is not None:
        return Judgement.beyond_reach(record.pod_absent)
    if not record.targets:
        return Judgement.skipped("there is no other node that this one is paired with")
    judgement = Judgement(
        want=f"pods no slower than {expect.pod_to_host} times their nodes, or {expect.slack_ms} ms (p99: {expect.slack_p99_ms} ms) more"
    )
    for target, takes in record.targets.items():
        judgement.evidence[target] = [
            {
                "path": take.path,
                "samples": take.samples,
                "error": take.error,
                **({} if take.error is not None else {key: getattr(take, key) for key in ("p50_ms", "p90_ms", "p99_ms", "jitter_ms")}),
            }
            for take in takes
        ]
        judgement.evidence[target] += [_told_of(echo) for echo in record.echoes.get(target, ())]
        about = f"{record.node}: to {target}"
        if (error := _closed(takes, "pod")) is not None:
            judgement.remark(f"{about}: pod path: {error}", command=_HOW)
            continue
        pods = _good(judgement, about, takes, "pod")
        if pods is not None and _quick(pods, expect) and (closed := _closed(takes, "host")) is not None:
            judgement.hold(2)
            judgement.remark(f"{about}: no host path to compare with ({closed}); pods are within what they may take more", command=_HOW)
            continue
        hosts = _good(judgement, about, takes, "host")
        if pods is not None and hosts is not None:
            _compare(judgement, about, pods, hosts, expect, _echo_ms(record, target))
    _echoes(judgement, record)
    if not judgement.checked:
        judgement.skip_reason = _CUT_OFF
    return judgement


def reference_points(record: LatencyRecord, expect: LatencyExpectation) -> Judgement:
    """Judge whether connections to the profile's reference points open as fast as it says."""
    if not expect.points:
        return Judgement.skipped("no profile names a reference point (latency.points)")
    if record.pod_absent is not None:
        return Judgement.beyond_reach(record.pod_absent)
    judgement = Judgement(want=f"{len(expect.points)} reference points as near as the profile says")
    measured = {point.name: point for point in record.points}
    for want in expect.points:
        point = measured.get(want.name)
        about = f"{record.node}: {want.name} ({want.address} port {want.port})"
        if point is None or (point.address, point.port) != (want.address, want.port):
            judgement.error(f"{about}: was not measured")
            continue
        if point.p50_ms is None:
            judgement.check(False, f"{about}: no connection: {point.error}", command=_CONNECT)
            continue
        judgement.evidence[want.name] = {"p50_ms": point.p50_ms, "samples": point.samples, "error": point.error}
        if point.asked is not None and 2 * point.samples < point.asked:
            text = f"{about}: {point.samples} of {point.asked} connections opened, want half of them within {want.max_p50_ms:g} ms"
            judgement.check(
                False, f"{text} ({want.origin}): {point.error}", measured=point.samples, wanted=f">= {point.asked / 2:g}", command=_CONNECT
            )
            continue
        judgement.check(
            point.p50_ms <= want.max_p50_ms,
            f"{about}: half of the connections take more than {point.p50_ms:.3g} ms to open, "
            f"want {want.max_p50_ms:g} ms at most ({want.origin})",
            measured=point.p50_ms,
            wanted=want.max_p50_ms,
            command=_CONNECT,
        )
        if point.error is not None:
            judgement.remark(f"{about}: some connections did not open: {point.error}")
    return judgement


def _good(judgement: Judgement, about: str, takes: Sequence[Take], path: Literal["host", "pod"]) -> list[Take] | None:
    """Return the takes of one path, None when one of them went wrong: that is noted then."""
    own = [take for take in takes if take.path == path]
    wrong = list(dict.fromkeys(take.error for take in own if take.error is not None))
    for error in wrong:
        judgement.error(f"{about}: {path} path: {error}", command=_HOW)
    if not own:
        judgement.error(f"{about}: no take of the {path} path was recorded")
    return own if own and not wrong else None


def _closed(takes: Sequence[Take], path: Literal["host", "pod"]) -> str | None:
    """Return why no take of a path was answered, None when one was: whether a path is open at all is not judged here."""
    own = [take for take in takes if take.path == path]
    return own[0].error if own and all(take.closed for take in own) else None


def _quick(pods: Sequence[Take], expect: LatencyExpectation) -> bool:
    """Whether pods take no longer than they may take more than any host path."""
    return min(_of(pods, "p50_ms")) <= expect.slack_ms.value and min(_of(pods, "p99_ms")) <= expect.slack_p99_ms.value


def _told_of(echo: Echo) -> dict[str, object]:
    """Return what is kept of ICMP echo as evidence."""
    figures = {key: getattr(echo, key) for key in ("p50_ms", "p90_ms", "p99_ms", "jitter_ms")} if echo.samples else {}
    return {"path": echo.path, "by": "ICMP", "samples": echo.samples, "lost": echo.lost, "error": echo.error or echo.refused, **figures}


def _echoes(judgement: Judgement, record: LatencyRecord) -> None:
    """Tell where ICMP echo gave no second opinion. That it is shut is nobody's fault."""
    for path, place in (("host", "the node"), ("pod", "its pod")):
        own = {target: echo for target, echoes in record.echoes.items() for echo in echoes if echo.path == path}
        for why in dict.fromkeys(echo.refused for echo in own.values() if echo.refused is not None):
            judgement.remark(f"{record.node}: no ICMP echo from {place}: {why}")
        silent = [target for target, echo in own.items() if echo.refused is None and echo.error is None and not echo.samples]
        if silent:
            judgement.remark(f"{record.node}: ICMP echo from {place} to {', '.join(silent)} is not answered")
        for target, echo in own.items():
            if echo.error is not None:
                judgement.remark(f"{record.node}: ICMP echo from {place} to {target}: {echo.error}")


def _echo_ms(record: LatencyRecord, target: str) -> float | None:
    """Return how long ICMP echo takes between the pods, None where that is not known."""
    return next((echo.p50_ms for echo in record.echoes.get(target, ()) if echo.path == "pod"), None)


def _located(pod_ms: float, echo_ms: float) -> str:
    """Say whether packets are late or what carries them, by a second opinion."""
    where = "packets are late, whatever they carry" if echo_ms > pod_ms / 2 else "not packets are late, but what is above IP"
    return f" (ICMP echo {echo_ms:.3g} ms: {where})"


def _compare(
    judgement: Judgement, about: str, pods: Sequence[Take], hosts: Sequence[Take], expect: LatencyExpectation, echo_ms: float | None
) -> None:
    percentiles: tuple[tuple[Percentile, Wanted[float]], ...] = (("p50_ms", expect.slack_ms), ("p99_ms", expect.slack_p99_ms))
    for key, slack in percentiles:
        pod, host, worst = min(_of(pods, key)), min(_of(hosts, key)), max(_of(hosts, key))
        limit = _limit(host, slack, expect)
        located = _located(pod, echo_ms) if key == "p50_ms" and echo_ms is not None and pod > limit else ""
        told = f"{about}: {key.removesuffix('_ms')} pods {milliseconds(_of(pods, key))}{located}, hosts {milliseconds(_of(hosts, key))}"
        if key == "p99_ms" and pod > limit and worst > limit:
            judgement.hold(1)  # the p50 stands for both then
            judgement.remark(f"{told}: the host takes are too uneven to judge it", measured=pod, wanted=round(limit, 3), command=_HOW)
            continue
        compared(judgement, told, pod, (host, worst), slack, expect, _HOW)


def compared(
    judgement: Judgement,
    told: str,
    pod: float,
    hosts: tuple[float, float],
    slack: Wanted[float],
    expect: LatencyExpectation,
    how: str,
    disturbed: str | None = None,
) -> None:
    """Judge a time of pods by the least and the most of their nodes' takes; `disturbed` says what else may have made it long."""
    limit = _limit(min(hosts), slack, expect)
    want = f"want {limit:.3g} ms at most: {expect.pod_to_host} times the host path, or {slack} ms more"
    if limit < pod <= _limit(max(hosts), slack, expect):
        judgement.inconclusive(f"{told}: the host takes differ too much to tell, {want}", measured=pod, wanted=round(limit, 3), command=how)
    elif pod > limit and disturbed is not None:
        judgement.inconclusive(f"{told}: {disturbed}, {want}", measured=pod, wanted=round(limit, 3), command=how)
    else:
        judgement.check(pod <= limit, f"{told}, {want}", measured=pod, wanted=round(limit, 3), command=how)


def _limit(host_ms: float, slack: Wanted[float], expect: LatencyExpectation) -> float:
    return max(host_ms * expect.pod_to_host.value, host_ms + slack.value)


def _of(takes: Sequence[Take], key: Percentile) -> list[float]:
    return [take.p50_ms if key == "p50_ms" else take.p99_ms for take in takes]


def milliseconds(values: Sequence[float]) -> str:
    """Return times in words."""
    return " and ".join(f"{value:.3g}" for value in values) + " ms"
