"""All faults, and what they turn in a lab of given nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults import (
    absence,
    cilium,
    cni,
    conntrack,
    crossing,
    dns,
    families,
    ingress,
    kernel,
    kubelet,
    machine,
    neighbours,
    network,
    nftables,
    objects,
    owners,
    packets,
    paths,
    pods,
    policy,
    reach,
    service_proxy,
    services,
    syncs,
    tables,
)
from pytest_k8snet.lab.faults.matrix import Row
from pytest_k8snet.lab.faults.model import ANY_NETWORK, ANY_PROXY_MODE, EVERY_NODE, INTO_NODE, NODE, PEER_NODE, Fault, Turns

FAULTS: tuple[Fault, ...] = (
    *service_proxy.FAULTS,
    *syncs.FAULTS,
    *nftables.FAULTS,
    *absence.FAULTS,
    *cilium.FAULTS,
    *network.FAULTS,
    *paths.FAULTS,
    *cni.FAULTS,
    *crossing.FAULTS,
    *kernel.FAULTS,
    *conntrack.FAULTS,
    *machine.FAULTS,
    *pods.FAULTS,
    *reach.FAULTS,
    *owners.FAULTS,
    *neighbours.FAULTS,
    *packets.FAULTS,
    *services.FAULTS,
    *kubelet.FAULTS,
    *dns.FAULTS,
    *objects.FAULTS,
    *tables.FAULTS,
    *ingress.FAULTS,
    *policy.FAULTS,
    *families.FAULTS,
)


def fault(name: str) -> Fault:
    """Return the fault called `name`; raise `LabError` naming all when there is none."""
    for known in FAULTS:
        if known.name == name:
            return known
    raise LabError(f"no fault is called {name!r}; there are: {', '.join(known.name for known in FAULTS)}")


def turned(known: Fault, node: str, nodes: Sequence[str], pairs: Sequence[str]) -> frozenset[tuple[str, str, str]]:
    """Return every (check, subject, verdict) that the fault turns on `node`, one of `nodes`, when `pairs` (``a:b``) are measured."""
    return frozenset((turns.check, subject, turns.verdict) for turns in known.turns for subject in _subjects(turns, node, nodes, pairs))


def _subjects(turns: Turns, node: str, nodes: Sequence[str], pairs: Sequence[str]) -> Sequence[str]:
    if turns.subject == EVERY_NODE:
        return nodes
    if turns.subject == PEER_NODE:
        return [nodes[(nodes.index(node) + 1) % len(nodes)]]
    if turns.subject == INTO_NODE:
        return [pair for pair in pairs if pair.partition(":")[2] == node]
    return [node if turns.subject == NODE else turns.subject]


def to_json(known: Fault, node: str, nodes: Sequence[str], pairs: Sequence[str]) -> dict[str, Any]:
    """Describe a fault; node subjects stay ``{node}``, pairs are those of `node`."""
    return {
        "name": known.name,
        "area": known.area,
        "summary": known.summary,
        "proxy_modes": list(known.proxy_modes),
        "networks": list(known.networks),
        "with_ingress": known.with_ingress,
        "with_policy": known.with_policy,
        "with_ipv6": known.with_ipv6,
        "turns": [
            {"check": turns.check, "subject": subject, "verdict": turns.verdict}
            for turns in known.turns
            for subject in ([NODE] if turns.subject == NODE else _subjects(turns, node, nodes, pairs))
        ],
    }


#: Checks whose failing cases rest on documents alone, and why no lab can have the real thing.
WITHOUT_FAULT = {
    "NET-CONTROL-003": "a node of the lab has 253 addresses for pods, and its kubelet takes 110 of them at most",
    "NET-DNS-007": "its list of domains is the usual one, whatever a kubelet writes (NET-DNS-008 judges that); a server that fails for one "
    "of them alone is no fault of a network",
    "NET-INGRESS-003": "what it finds is advice: it never fails",
    "NET-LATENCY-002": "the lab has no point outside of it that a profile could name",
    "NET-NODE-001": "nodes of the lab are programs of this machine, whose kernel counts no steal",
    "NET-NODE-003": "no node of the lab runs an NTP client: its clock is this machine's, and never said to be synchronised",
    "NET-SERVICE-008": "thousands of Services take minutes to make; iptables mode is as slow with them as it is, without a fault",
}

_HEAD = """# Faults

What `k8snet lab fault apply NAME --node NODE` breaks, and every case of the suite that is then neither pass nor skip: on such a lab with
`--line-rate 50mbit`, with the profiles `lab`, `tuned-node` and those of the lab's proxy mode and network. The project's lab tests apply
each (on ipvs and native, where a lab may be any; those of other networks where `K8SNET_TEST_LAB` names them; several at
a time), run the suite and compare, exactly, at the level of the checks that are to turn: a fault of what is read may turn checks that send
packets as well.
`k8snet lab fault revert` mends it again.

This page is written by `k8snet lab fault list --write-docs docs/faults.md`, with what the lab tests noted of their runs
([how long it takes](#how-long-it-takes)) in `faults.json` beside it.
"""
_COLUMNS = "| fault | what it breaks | lab | cases it turns |\n|---|---|---|---|\n"
_WITHOUT = """
## Without a fault

Failing cases of these are judged from documents, in the tests of their judges.

| check | why |
|---|---|
"""
_TIMES = """
## How long it takes

Each row is one run of the suite on a lab with the faults of the first column at once, on a machine of two cores, which had other work at
times: seconds to apply them, for the run at the level that shows them, and to revert them; nodes at the same time, the faults of a node one
after the other. The lab tests write the rows, and `python -m tests.recordings.keep build/lab` takes them over.

| faults | lab | level | apply | run | revert | turned | day |
|---|---|---|---:|---:|---:|---|---|
"""
_SUBJECTS = {
    NODE: "the node",
    PEER_NODE: "its peer",
    INTO_NODE: "every measured pair into the node",
    EVERY_NODE: "every node",
    "cluster": "the cluster",
}


def page(rows: Sequence[Row] = ()) -> str:
    """Return docs/faults.md: the faults area by area, and what the runs of `rows` took."""
    areas = dict.fromkeys(known.area for known in FAULTS)
    tables = [f"\n## {area}\n\n{_COLUMNS}{''.join(_row(known) for known in FAULTS if known.area == area)}" for area in areas]
    without = "".join(f"| [{check}](checks/{check}.md) | {why} |\n" for check, why in WITHOUT_FAULT.items())
    return _HEAD + "".join(tables) + _WITHOUT + without + _TIMES + "".join(_timed(row) for row in sorted(rows, key=_place))


def _place(row: Row) -> tuple[int, ...]:
    """Order rows as the faults are ordered."""
    order = {known.name: number for number, known in enumerate(FAULTS)}
    return tuple(sorted(order[name] for name in row.faults))


def _timed(row: Row) -> str:
    names = ", ".join(f"`{name}` ({node})" for name, node in row.faults.items())
    family = {"ipv4": "", "dual": ", both families", "ipv6": ", IPv6 alone"}[row.ip_family]
    kernel = {"uml": "User-Mode Linux", "qemu": "QEMU"}[row.node_kernel]
    lab = f"{row.network}, {row.proxy_mode}{family}; {row.nodes} nodes in {kernel}"
    wrong = [
        f"{what} {check} of {subject} ({verdict})"
        for what, cases in (("without", row.missing), ("and", row.beyond))
        for check, subject, verdict in cases
    ]
    result = "; ".join([f"{row.turned} cases, {'exactly those declared' if not wrong else 'not those declared'}", *wrong])
    return f"| {names} | {lab} | {row.level} | {row.apply_s:.0f} | {row.run_s:.0f} | {row.revert_s:.0f} | {result} | {row.day} |\n"


def _row(known: Fault) -> str:
    cases = "; ".join(f"{turns.verdict} [{turns.check}](checks/{turns.check}.md) of {_SUBJECTS[turns.subject]}" for turns in known.turns)
    return f"| `{known.name}` | {known.summary} | {labs_of(known)} | {cases} |\n"


def labs_of(known: Fault) -> str:
    """Return in words which labs a fault is for."""
    modes = "any proxy mode" if known.proxy_modes == ANY_PROXY_MODE else f"proxy mode {' or '.join(known.proxy_modes)}"
    network = "" if known.networks == ANY_NETWORK else f", network {' or '.join(known.networks)}"
    more = (
        (", --ingress nginx", known.with_ingress),
        (", --policy kube-router", known.with_policy),
        (", --ip-family dual or ipv6", known.with_ipv6),
    )
    return f"{modes}{network}{''.join(text for text, wanted in more if wanted)}"


def unfit(known: Fault, proxy_mode: str, network: str, *, has_ingress: bool, has_policy: bool, has_ipv6: bool) -> str | None:
    """Return which labs a fault is for when it is not for such a lab, None when it is."""
    wanted = ((has_ingress, known.with_ingress), (has_policy, known.with_policy), (has_ipv6, known.with_ipv6))
    has_all = all(has or not needs for has, needs in wanted)
    return None if has_all and proxy_mode in known.proxy_modes and network in known.networks else labs_of(known)
