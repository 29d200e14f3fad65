"""Counts what a lab's nodes send beyond the lab: run in its network namespace, on the bridge that is their gateway.

`python -m tests.lab.gateway OUT RANGE...` writes the destinations outside of all RANGEs, as JSON with the number of packets of each,
when it is told to end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from pytest_k8snet.lab.addresses import AddressPlan
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.namespace import Namespace
from pytest_k8snet.lab.state import LabFolder
from pytest_k8snet.lab.wire import BRIDGE
from tests.lab.suite import Lab

_ETH_P_IP = 0x0800
_OUTSIDE = "192.0.2.1"  # TEST-NET-1, RFC 5737: nobody's


def watch(out: Path, ranges: list[IPv4Network]) -> None:
    """Count until SIGTERM."""
    seen: Counter[str] = Counter()

    def end(_number: int, _frame: object) -> None:
        out.write_text(json.dumps(seen))
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP)) as sock:
        sock.bind((BRIDGE, _ETH_P_IP))
        out.with_suffix(".ready").touch()
        while True:
            packet = sock.recv(64)
            destination = IPv4Address(packet[16:20])
            local = destination.is_multicast or destination.is_loopback or destination == IPv4Address("255.255.255.255")
            if not local and not any(destination in known for known in ranges):
                seen[str(destination)] += 1


@contextmanager
def watched(lab: Lab, out: Path) -> Iterator[Mapping[str, int]]:
    """Watch a lab's gateway; at the end the mapping holds the destinations outside of the lab and how many packets went to each.

    A node sends one packet beyond the lab first: what does not see it sees nothing.
    """
    seen: dict[str, int] = {}
    state = LabFolder(lab.name).read()
    plan = AddressPlan.of(state.settings)
    namespace = Namespace(state.processes[0], of_user=os.geteuid() != 0)
    ranges = [state.settings.node_subnet, state.settings.pod_cidr, plan.service_cidrs[0]]
    argv = namespace.enter([sys.executable, "-m", "tests.lab.gateway", str(out), *ranges])
    with subprocess.Popen(argv) as watcher:
        try:
            wait_until(out.with_suffix(".ready").exists, "the watcher to be ready", interval_s=0.05)
            lab.ssh("node-1", "python3", "-c", f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{_OUTSIDE}', 9))")
            yield seen
        finally:
            watcher.terminate()
    seen.update(json.loads(out.read_text()))
    assert seen.pop(_OUTSIDE, None) == 1, f"the watcher is blind: {seen}"


if __name__ == "__main__":
    watch(Path(sys.argv[1]), [IPv4Network(text) for text in sys.argv[2:]])
