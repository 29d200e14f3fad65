"""Say of every expectation what it is and where it comes from, in the words that a profile has for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pytest_k8snet.expect.model import (
    CROSS_SUBNET,
    EncapsulationExpectation,
    Expectation,
    KernelExpectation,
    ReferencePoint,
    RouteExpectation,
    SysctlWant,
    Wanted,
)
from pytest_k8snet.expect.schema import rate_text

if TYPE_CHECKING:
    from pytest_k8snet.cluster.model import Claim, Cluster
    from pytest_k8snet.expect.profile import Profile
    from pytest_k8snet.expect.resolve import Expectations

#: Keys of a profile whose names differ from those of the fields that hold their values.
_KEYS = {
    "encapsulation.kind": "encapsulation",
    "node.regions": "regions",
    "node.zones": "zones",
    "throughput.line_rate_bps": "throughput.line_rate",
}
_NO_TUNING = ("modules", "persisted")  # of the kernel's, what is never advice of tuned-node
_NOT_KEYS = ("mode_unknown", "encrypted")  # told with the proxy's mode; what the cluster alone can say
_NAMED = 10  # nodes that are named one by one
_WIDEST = 20  # characters of values below each other; longer ones stand out
_SYSCTLS = {"host_sysctls": "kernel.sysctl.host", "pod_sysctls": "kernel.sysctl.pod"}


@dataclass(frozen=True, slots=True)
class Explained:
    """One expectation: its key in a profile, what is wanted and who wants it. Without a value nobody does."""

    key: str
    value: str | None
    origin: str
    note: str | None = None


def explain(expectation: Expectation, claims: Mapping[str, Claim], profile: Profile | None) -> Iterator[Explained]:
    """Yield everything that is expected of a node, and what could be and is not."""
    for section in fields(expectation):
        value = getattr(expectation, section.name)
        if section.name == "custom":
            yield from (_custom(key, item, profile) for key, item in value.items())
            continue
        if isinstance(value, EncapsulationExpectation):
            yield from _of_field(section.name, "kind", value.word, claims, None)
            continue
        note = "advice only: no profile wants any tuning" if isinstance(value, KernelExpectation) and value.advice else None
        for item in fields(value):
            if item.name in _NOT_KEYS:
                continue
            yield from _of_field(section.name, item.name, getattr(value, item.name), claims, None if item.name in _NO_TUNING else note)


def explained_text(expectations: Expectations, cluster: Cluster, profile: Profile | None, nodes: tuple[str, ...]) -> str:
    """Return the expectations of `nodes`, those that are the same for several of them once, and the waivers."""
    groups: dict[tuple[Explained, ...], list[str]] = {}
    for name in nodes:
        groups.setdefault(tuple(explain(expectations.node(name), cluster.claims, profile)), []).append(name)
    lines: list[str] = []
    for told, names in groups.items():
        few = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        lines += ["", few, *(f"  {line}" for line in _table(told))]
    lines += ["", "What holds on every healthy cluster is built into the checks beside these: see `k8snet checks`."]
    if expectations.waivers:
        lines += ["", "waivers"]
    for waiver in expectations.waivers:
        lines.append(f"  {waiver.check} on {', '.join(waiver.nodes)} until {waiver.expires} ({waiver.origin}): {waiver.reason}")
    return "\n".join(lines[1:]) + "\n"


def _of_field(section: str, name: str, value: object, claims: Mapping[str, Claim], note: str | None) -> Iterator[Explained]:
    if isinstance(value, bool):
        return
    if isinstance(value, tuple):
        for want in value:
            if isinstance(want, SysctlWant):
                operator = "" if want.operator == "=" else f"{want.operator} "
                yield Explained(f"{_SYSCTLS.get(name, f'{section}.{name}')}.{want.key}", f"{operator}{want.value}", want.origin, note)
            elif isinstance(want, ReferencePoint | RouteExpectation):
                yield Explained(f"{section}.{name}", str(want), want.origin)
        return
    key = _KEYS.get(f"{section}.{name}", f"{section}.{name}")
    claim = claims.get(key)
    if key == "proxy.mode" and claim is None:
        claim = claims.get("proxy.replaced")
    if key == "encapsulation" and claim is None and (between := claims.get("encapsulation.cross_subnet")) is not None:
        claim = replace(between, value=f"{between.value}{CROSS_SUBNET}")
    if not isinstance(value, Wanted):
        unread = f": {claim.source}" if claim is not None and claim.value is None else ""
        yield Explained(key, None, f"nobody says{unread}")
        return
    text = rate_text(value.value) if key == "throughput.line_rate" else _text(value.value)
    if claim is not None and claim.value is not None and _text(claim.value) != text and not value.origin.startswith("claim "):
        told = f"instead of {_text(claim.value)} (claim {claim.source})"
        note = told if note is None else f"{note}; {told}"
    yield Explained(key, text, value.origin, note)


def _custom(key: str, value: object, profile: Profile | None) -> Explained:
    return Explained(f"custom.{key}", _text(value), profile.origin("custom", key) if profile is not None else "")


def _table(told: tuple[Explained, ...]) -> Iterator[str]:
    width = max((len(item.key) for item in told), default=0)
    values = min(_WIDEST, max((len(item.value or "-") for item in told), default=0))
    for item in told:
        note = "" if item.note is None else f"; {item.note}"
        yield f"{item.key:<{width}}  {item.value or '-':<{values}}  {item.origin}{note}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
