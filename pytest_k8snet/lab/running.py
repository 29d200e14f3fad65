"""A lab that runs, as commands and faults see it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.addresses import API_PORT, AddressPlan, host_and_port
from pytest_k8snet.lab.client import LabClient
from pytest_k8snet.lab.faults.model import FaultyNode, Ran
from pytest_k8snet.lab.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_k8snet.lab.settings import NetworkKind
    from pytest_k8snet.lab.state import LabFolder, LabState

_COMMAND_S = 120.0
_NOT_REACHED = 255  # exit status of ssh itself


class RunningLab:
    """Implements `pytest_k8snet.lab.faults.model.FaultyLab`."""

    def __init__(self, folder: LabFolder, state: LabState) -> None:
        self._folder = folder
        self._state = state
        self._plan = AddressPlan.of(state.settings)

    @staticmethod
    def find(folder: LabFolder) -> RunningLab:
        """Give a lab that runs; raise a LabError when it does not."""
        state = folder.read()
        condition = folder.condition(state)
        if condition != "running":
            raise LabError(
                f"lab {folder.name} is {condition}"
                + (f"; remove it and start it again: k8snet lab down --name {folder.name}" if condition == "broken" else "; wait for it")
            )
        return RunningLab(folder, state)

    @property
    def proxy_mode(self) -> str:
        """The service proxy the lab was started with."""
        return self._state.settings.proxy_mode

    @property
    def network(self) -> NetworkKind:
        """How its pods reach each other."""
        return self._state.settings.network

    @property
    def has_ingress(self) -> bool:
        """Whether it has an ingress."""
        return self._state.settings.ingress != "none"

    @property
    def has_policy(self) -> bool:
        """Whether something enforces NetworkPolicies."""
        return self._state.settings.policy != "none"

    @property
    def has_ipv6(self) -> bool:
        """Whether its pods have IPv6."""
        return 6 in self._plan.families

    @property
    def nodes(self) -> Sequence[FaultyNode]:
        """All nodes."""
        return [FaultyNode(node.name, node.addresses, node.pod_cidrs) for node in self._plan.nodes]

    def node(self, name: str) -> FaultyNode:
        """Give the node of this name; raise a LabError that names all when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"lab {self._folder.name} has no node {name}; it has {', '.join(node.name for node in self.nodes)}")

    @property
    def pause_image(self) -> str:
        """An image whose container does nothing for ever."""
        return self._state.images["pause"]

    @property
    def node_kubeconfig(self) -> str:
        """The administrator's kubeconfig, with the address that nodes know the API server by."""
        outside, inside = f"https://127.0.0.1:{self._state.ports['api']}", f"https://{host_and_port(self._plan.api_address, API_PORT)}"
        return self._folder.kubeconfig.read_text().replace(outside, inside)

    @cached_property
    def client(self) -> LabClient:
        """The API server."""
        return LabClient(Api.from_kubeconfig(str(self._folder.kubeconfig)))

    def ssh_command(self, node: str, argv: Sequence[str]) -> list[str]:
        """Give the ssh command that runs `argv` on a node; without one it opens a shell there."""
        self.node(node)
        # sshd gives what it gets to a shell. One word alone is what ssh itself makes of it: a command line.
        command = [] if not argv else ["--", argv[0] if len(argv) == 1 else shlex.join(argv)]
        return ["ssh", "-F", str(self._folder.ssh / "config"), node, *command]

    def run(self, node: str, argv: Sequence[str], *, stdin: str | None = None) -> Ran:
        """Run a command on a node as root; raise a LabError with its output when it fails."""
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        try:
            done = subprocess.run(self.ssh_command(node, argv), capture_output=True, text=True, timeout=_COMMAND_S, check=False, **given)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{node}: {shlex.join(argv)} did not end within {_COMMAND_S:.0f} s") from error
        if done.returncode == _NOT_REACHED:
            raise LabError(f"{node}: not reached by SSH: {done.stderr.strip()}; look at `k8snet lab logs --name {self._folder.name}`")
        if done.returncode != 0:
            raise LabError(f"{node}: {shlex.join(argv)} exited with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return Ran(done.returncode, done.stdout, done.stderr)

    def filter_wire(self, node: str, program: Sequence[tuple[int, int, int, int]] | None) -> None:
        """Let a program choose the frames that get to a node, or `None` all; raise a LabError when that cannot be."""
        self.node(node)
        keeper = self._state.processes[0]
        process = next(item for item in self._state.processes if item.name == node)
        arguments = [str(process.pid), self._plan.node(node).tap, *([] if program is None else [json.dumps(program)])]
        # In the lab's namespaces: a user without root has the rights it takes only there.
        Namespace(keeper, of_user=os.geteuid() != 0).run([sys.executable, "-m", "pytest_k8snet.lab.tap_filter", *arguments])

    def apply_object(self, manifest: Mapping[str, Any]) -> None:
        """Create or replace an object."""
        self.client.apply(manifest)

    def set_status(self, manifest: Mapping[str, Any]) -> None:
        """Give an object its status, as a controller would."""
        self.client.set_status(manifest)

    def delete_object(self, manifest: Mapping[str, Any]) -> None:
        """Delete an object and wait until it is gone."""
        self.client.delete(manifest)

    def read_object(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read an object."""
        return self.client.read(manifest)

    def label_node(self, node: str, key: str, value: str | None) -> None:
        """Set a label of a node, or take it away."""

        def change(found: dict[str, Any]) -> Mapping[str, Any]:
            labels = {name: text for name, text in found["metadata"].get("labels", {}).items() if name != key}
            found["metadata"]["labels"] = labels | ({} if value is None else {key: value})
            return found

        self.client.change({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}, change)
