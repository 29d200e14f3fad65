"""The ways in which simulated nodes are broken, and exactly the cases that each turns red."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.agent.agent import without_real_servers


@dataclass(slots=True)
class Answers:
    """What the two agents of one node answer, to be changed."""

    uplink: str
    host: dict[str, Any]
    pod: dict[str, Any]
    ipvs: dict[str, Any]
    odd_route: dict[str, Any] | None = None  # what is different in the routes to some peers

    @property
    def sysctls(self) -> dict[str, str | None]:
        """The node's own."""
        found: dict[str, str | None] = self.host["host"]["sysctls"]
        return found

    def set_table(self, change: Callable[[str], str]) -> None:
        """Change the IPVS table, and what is told of it among the facts."""
        self.ipvs["table"] = change(self.ipvs["table"])
        self.host["ipvs"] = without_real_servers({"loaded": True, "table": self.ipvs["table"]})


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to be broken."""

    name: str
    turns: tuple[str, ...]  # checks that are then not pass on the node
    change: Callable[[Answers], object]
    turns_cluster: tuple[str, ...] = ()  # and on the cluster


def _set_mtu(network: dict[str, Any], device: str, mtu: int) -> None:
    for link in network["links"]:
        if link["ifname"] == device:
            link["mtu"] = mtu


def _iptables_mode(answers: Answers) -> None:
    answers.host["kube_proxy"]["mode"] = answers.ipvs["mode"] = "iptables"


def _chains_in_force(answers: Answers) -> None:
    chains = [f"KUBE-SVC-{number:016X}" for number in range(40)]
    legacy = answers.host["iptables"]["legacy"]
    legacy["chains"] = sorted([*legacy["chains"], *chains])
    legacy["reachable"] = sorted([*legacy["reachable"], *chains])


def _vxlan_route(answers: Answers) -> None:
    answers.host["host"]["links"].append(
        {
            "ifname": "flannel.1",
            "mtu": 1450,
            "flags": ["UP"],
            "qdisc": "noqueue",
            "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 1}},
        }
    )
    answers.odd_route = {"dev": "flannel.1"}


def _no_route(answers: Answers) -> None:
    answers.odd_route = {"dev": None, "error": "RTNETLINK answers: Network is unreachable"}


def _without_a_server(table: str) -> str:
    """Leave out the first virtual server."""
    lines = table.splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines[4:], start=4) if not line.startswith("  ->"))
    return "".join(lines[:3] + lines[end:])


def _with_a_stale_endpoint(table: str) -> str:
    lines = table.splitlines(keepends=True)
    return "".join([*lines[:4], "  -> 0A20FFFE:1F90      Masq    1\n", *lines[4:]])


FAULTS: tuple[Fault, ...] = (
    Fault("pod-mtu", ("NET-MTU-001",), lambda answers: _set_mtu(answers.pod, "eth0", 1450)),
    Fault(
        "uplink-mtu",
        ("NET-MTU-002",),
        lambda answers: _set_mtu(answers.host["host"], answers.uplink, 1400),
        turns_cluster=("NET-NODE-004",),
    ),
    Fault("old-pod-mtu", ("NET-MTU-004",), lambda answers: _set_mtu(answers.host["existing_pods"][3], "eth0", 1450)),
    Fault("proxy-mode", ("NET-PROXY-001", "NET-PROXY-007"), _iptables_mode, turns_cluster=("NET-PROXY-002",)),
    Fault("service-chains", ("NET-PROXY-001",), _chains_in_force),
    Fault("scheduler", ("NET-PROXY-003",), lambda answers: answers.set_table(lambda table: table.replace(" rr ", " lc "))),
    Fault("ipvs-sysctl", ("NET-PROXY-004",), lambda answers: answers.sysctls.update({"net.ipv4.vs.conntrack": "0"})),
    Fault(
        "strict-arp",
        ("NET-PROXY-005",),
        lambda answers: answers.sysctls.update({"net.ipv4.conf.all.arp_ignore": "0", "net.ipv4.conf.all.arp_announce": "0"}),
    ),
    Fault("vxlan-route", ("NET-ENCAP-001",), _vxlan_route),
    Fault("no-route", ("NET-ENCAP-001",), _no_route),
    Fault("sysctl", ("NET-KERNEL-001",), lambda answers: answers.sysctls.update({"net.ipv4.tcp_tw_reuse": "0"})),
    Fault(
        "pod-sysctl", ("NET-KERNEL-002",), lambda answers: answers.pod["sysctls"].update({"net.ipv4.ip_local_port_range": "32768 60999"})
    ),
    Fault("qdisc", ("NET-KERNEL-003",), lambda answers: [item.update(kind="pfifo_fast") for item in answers.host["qdiscs"]]),
    Fault("congestion-control", ("NET-KERNEL-004",), lambda answers: answers.host["host"].update(congestion_control="cubic")),
    Fault("conntrack", ("NET-KERNEL-005", "NET-CONNTRACK-003"), lambda answers: answers.host["conntrack"].update(max=65536)),
    Fault("forwarding", ("NET-KERNEL-006",), lambda answers: answers.sysctls.update({"net.ipv4.ip_forward": "0"})),
    Fault(
        "reserved-ports", ("NET-KERNEL-001",), lambda answers: answers.sysctls.update({"net.ipv4.ip_local_reserved_ports": "10248-10260"})
    ),
    # Such a fault is looked at for half a minute before it is told.
    Fault("virtual-server-missing", ("NET-PROXY-006",), lambda answers: answers.set_table(_without_a_server)),
    Fault("stale-endpoint", ("NET-PROXY-006",), lambda answers: answers.set_table(_with_a_stale_endpoint)),
    Fault(
        "real-server-weight",
        ("NET-PROXY-006",),
        lambda answers: answers.set_table(lambda table: table.replace("Masq    1\n", "Masq    0\n", 1)),
    ),
)
