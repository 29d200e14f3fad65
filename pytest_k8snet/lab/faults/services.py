"""Faults of Services that begin when a run has made its own: a program on the node waits for them in the table of IPVS."""

from __future__ import annotations

from collections.abc import Callable

from pytest_k8snet.access.probe_services import GROUP_TARGET_PORTS, SPREAD, STICKY
from pytest_k8snet.lab.faults import background
from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.faults.service_proxy import api_address_of_kube_proxy

NAT, FILTER = ("iptables-legacy", "-w", "-t", "nat"), ("iptables-legacy", "-w")
TAKE = """
# Does what a second kube-proxy in iptables mode would: takes new connections to a Service away before IPVS sees them.
import socket, struct, subprocess, time
def plain(written):
    host, port = written.split(":")
    return socket.inet_ntoa(struct.pack(">I", int(host, 16))), int(port, 16)
def servers():
    found, service = {{}}, None
    for line in open("/proc/net/ip_vs"):
        words = line.split()
        if words[0] == "TCP":
            service = words[1]
        elif words[0] == "->" and service and words[1].endswith(":{target_port}") and words[3] != "0":
            found.setdefault(service, []).append(words[1])
    return found
known = {{}}
while True:
    found = servers()
    if found != known:
        lines = ["*nat", ":{chain} - [0:0]"]
        for service, real in found.items():
            address, port = plain(service)
            for index, server in enumerate(real):
                to = "%s:%d" % plain(server)
                every = f"-m statistic --mode nth --every {{len(real) - index}} --packet 0" if index + 1 < len(real) else ""
                lines.append(f"-A {chain} -d {{address}}/32 -p tcp -m tcp --dport {{port}} {{every}} -j DNAT --to-destination {{to}}")
        subprocess.run(["iptables-legacy-restore", "-w", "--noflush"], input="\\n".join([*lines, "COMMIT", ""]), text=True, check=True)
        known = found
    time.sleep(0.2)
"""


def _take(service: str) -> Callable[[FaultyLab, FaultyNode], None]:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, [*NAT, "-N", _chain(service)])
        lab.run(node.name, [*NAT, "-I", "PREROUTING", "-j", _chain(service)])
        program = TAKE.format(chain=_chain(service), target_port=f"{GROUP_TARGET_PORTS[service]:04X}")
        background.start(lab, node, f"taker-of-{service}", program)

    return act


def _give_back(service: str) -> Callable[[FaultyLab, FaultyNode], None]:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        background.stop(lab, node, f"taker-of-{service}")
        for change in (["-D", "PREROUTING", "-j"], ["-F"], ["-X"]):
            lab.run(node.name, [*NAT, *change, _chain(service)])

    return act


def _chain(service: str) -> str:
    return f"LAB-FAULT-{service.upper()}"


STUCK = "LAB-FAULT-STUCK"
CUTTER = "cutter"
CUT = """
# Cuts kube-proxy off from the API server some seconds after all endpoints of a run's Service are in use.
import subprocess, time
def endpoints():
    with open("/proc/net/ip_vs") as table:
        return sum(words[0] == "->" and words[1].endswith(":{target_port}") and words[3] != "0" for words in map(str.split, table))
while endpoints() < {nodes}:
    time.sleep(0.5)
time.sleep(5)
for side in "-s", "-d":
    subprocess.run(["iptables-legacy", "-w", "-A", "{chain}", side, "{address}", "-j", "DROP"], check=True)
time.sleep(86400)
"""


def _stick(lab: FaultyLab, node: FaultyNode) -> None:
    _without_endpoints(lab, node)  # those of an earlier run would be taken for the next one's
    lab.run(node.name, [*FILTER, "-N", STUCK])
    for chain in ("INPUT", "OUTPUT"):
        lab.run(node.name, [*FILTER, "-I", chain, "-j", STUCK])
    target_port = f"{GROUP_TARGET_PORTS[SPREAD]:04X}"
    program = CUT.format(target_port=target_port, nodes=len(lab.nodes), chain=STUCK, address=api_address_of_kube_proxy(lab))
    background.start(lab, node, CUTTER, program)


def _go_on(lab: FaultyLab, node: FaultyNode) -> None:
    background.stop(lab, node, CUTTER)
    for change in (["-D", "INPUT", "-j", STUCK], ["-D", "OUTPUT", "-j", STUCK], ["-F", STUCK], ["-X", STUCK]):
        lab.run(node.name, [*FILTER, *change])
    _without_endpoints(lab, node)


def _without_endpoints(lab: FaultyLab, node: FaultyNode) -> None:
    """Wait until nothing of a run's Service is left on the node."""
    left = f":{GROUP_TARGET_PORTS[SPREAD]:04X}"
    wait_until(
        lambda: left not in lab.run(node.name, ["cat", "/proc/net/ip_vs"]).stdout,
        f"kube-proxy on {node.name} to catch up with the API server",
    )


FAULTS = (
    Fault(
        "services-taken",
        area="service",
        summary="rules of iptables lead connections to a Service to its endpoints before IPVS sees them, as a second kube-proxy's would",
        turns=(Turns("NET-SERVICE-004"),),
        apply=_take(SPREAD),
        revert=_give_back(SPREAD),
        proxy_modes=("ipvs",),
    ),
    Fault(
        "affinity-lost",
        area="service",
        summary="rules of iptables do so with a Service that keeps a client with one endpoint, and do not keep it",
        turns=(Turns("NET-SERVICE-007"),),
        apply=_take(STICKY),
        revert=_give_back(STICKY),
        proxy_modes=("ipvs",),
    ),
    Fault(
        "endpoints-stuck",
        area="service",
        summary="kube-proxy is cut off from the API server as soon as it serves a run's Services: it keeps endpoints that leave them",
        turns=(Turns("NET-SERVICE-006"),),
        apply=_stick,
        revert=_go_on,
        proxy_modes=("ipvs",),
    ),
)
