"""Faults of the machine under a node."""

from __future__ import annotations

from collections.abc import Callable

from pytest_k8snet.lab.faults import background
from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.objects import REGION, REGION_LABEL


def _region(value: str) -> Callable[[FaultyLab, FaultyNode], None]:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.label_node(node.name, REGION_LABEL, value)

    return act


BACKLOG = "net.core.netdev_max_backlog"
USUAL_BACKLOG = 1000
TALKER = "talker"

TALK = """
# Sends over the loopback device, whose packets all go by the processor's queue. Packets meet there as a connection gets up to speed, and
# one that has lost some is silent for a long time: so connections are new ones every time, and none is waited for.
import socket, threading, time
def read(connection):
    connection.settimeout(1)
    with connection:
        try:
            while connection.recv(1 << 16):
                pass
        except OSError:
            pass
def accept(server):
    while True:
        threading.Thread(target=read, args=(server.accept()[0],), daemon=True).start()
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(server,), daemon=True).start()
while True:
    for _ in range(8):
        try:
            with socket.create_connection(server.getsockname(), timeout=0.05) as talker:
                talker.setblocking(False)
                while True:
                    talker.send(bytes(1 << 18))
        except OSError:
            pass
    time.sleep(0.1)
"""


def _short_queue(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["sysctl", "-q", "-w", f"{BACKLOG}=0"])
    background.start(lab, node, TALKER, TALK)


def _usual_queue(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["sysctl", "-q", "-w", f"{BACKLOG}={USUAL_BACKLOG}"])
    background.stop(lab, node, TALKER)


HOG = "hog"

HOG_PROCESSOR = """
# Keeps the processor for 150 ms of every 400 ms, before everything else that runs here.
import os, time
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
while True:
    until = time.monotonic() + 0.15
    while time.monotonic() < until:
        pass
    time.sleep(0.25)
"""


def _hog(lab: FaultyLab, node: FaultyNode) -> None:
    background.start(lab, node, HOG, HOG_PROCESSOR)


def _no_hog(lab: FaultyLab, node: FaultyNode) -> None:
    background.stop(lab, node, HOG)


FAULTS = (
    Fault(
        "processor-hogged",
        area="node",
        summary="something keeps the node's processor for 150 ms at a time, as a busy neighbour of a virtual machine does",
        turns=(Turns("NET-NODE-006"),),
        apply=_hog,
        revert=_no_hog,
    ),
    Fault(
        "softnet-queue-too-short",
        area="node",
        summary="the processor's queue of received packets has room for one; connections over the loopback device fill it",
        turns=(Turns("NET-NODE-002"),),
        apply=_short_queue,
        revert=_usual_queue,
    ),
    Fault(
        "node-in-another-region",
        area="node",
        summary="the node's label says that it is in a region where it may not be",
        turns=(Turns("NET-NODE-005"),),
        apply=_region("elsewhere"),
        revert=_region(REGION),
    ),
)
