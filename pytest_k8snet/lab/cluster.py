"""Starts and stops a lab."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_error import ApiError, ApiUnreachableError
from pytest_k8snet.errors import K8sNetError, LabError
from pytest_k8snet.lab import control_plane, processes, wire
from pytest_k8snet.lab.addresses import API_PORT, SSH_PORT, AddressPlan, host_and_port
from pytest_k8snet.lab.client import LabClient
from pytest_k8snet.lab.kernel import NodeKernel, UserModeLinux
from pytest_k8snet.lab.kubeconfig import kubeconfig
from pytest_k8snet.lab.namespace import Namespace, open_namespace, require_host, start_keeper
from pytest_k8snet.lab.networks import NETWORKS
from pytest_k8snet.lab.node_files import NodeWriter, bird_protocol
from pytest_k8snet.lab.objects import manifests
from pytest_k8snet.lab.pki import ssh_pair, write_file
from pytest_k8snet.lab.prepare import Prepared, prepare
from pytest_k8snet.lab.qemu import Qemu, accelerator
from pytest_k8snet.lab.state import LabFolder, LabState, Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_k8snet.lab.networks import Network
    from pytest_k8snet.lab.processes import ProcessRef
    from pytest_k8snet.lab.progress import Progress, Step
    from pytest_k8snet.lab.settings import LabSettings

NODE_MEMORY_MIB = 2500
LAB_VARIABLE = "K8SNET_LAB"
"""In the environment of every process of a lab: the lab's folder."""

_API_S = 90.0
_READY_S = 300.0
_POLL_S = 0.2
_GRACE_S = 1.0  # nothing that a lab writes is worth waiting for


def up(settings: LabSettings, *, components_dir: Path | None, progress: Progress) -> LabFolder:
    """Start a lab and return when every node is Ready and the cluster's own pods run.

    Raises an error when the lab runs already or cannot be started; what was started is stopped then, its logs stay until `down`.
    """
    require_host()
    routes_by = NETWORKS[settings.network].routes_by
    prepared = prepare(
        components_dir=components_dir,
        progress=progress,
        network_of=routes_by if routes_by in ("flannel", "cilium") else None,
        with_kube_router=settings.policy == "kube-router",
        node_kernel=settings.kernel,
    )
    kernel = _kernel(settings, prepared, progress)
    folder = LabFolder(settings.name)
    with folder.locked():
        _make_way(folder, progress)
        recorder = Recorder(folder, settings)
        try:
            Start(folder, recorder, prepared, kernel, progress).run()
        except K8sNetError:
            _end_processes(folder, recorder.state)
            raise
        except BaseException:
            _end_processes(folder, recorder.state)
            folder.remove()
            raise
    return folder


def _kernel(settings: LabSettings, prepared: Prepared, progress: Progress) -> NodeKernel:
    if settings.kernel == "uml":
        return UserModeLinux(prepared)
    with progress.step(f"lab {settings.name}: KVM") as step:
        found = accelerator(prepared)
        step.note("works" if found == "kvm" else "does not work here; the nodes' processors are emulated, which is slow")
    return Qemu(prepared, found)


def down(name: str, progress: Progress) -> bool:
    """Stop a lab and remove everything of it; False when there is none of this name."""
    folder = LabFolder(name)
    if not folder.exists:
        return False
    with folder.locked(), progress.step(f"lab {name}: stop"):
        _end_processes(folder, _state_of(folder))
        folder.remove()
    return True


def _make_way(folder: LabFolder, progress: Progress) -> None:
    """Remove what a killed or failed start left; refuse when the lab runs."""
    if not folder.has_state:
        return
    state = _state_of(folder)
    if state is not None and folder.condition(state) == "running":
        raise LabError(f"lab {folder.name} runs already; stop it first: k8snet lab down --name {folder.name}")
    with progress.step(f"lab {folder.name}: remove what is left of an earlier one"):
        _end_processes(folder, state)
        folder.clear()


class Start:
    """One start of a lab."""

    def __init__(self, folder: LabFolder, recorder: Recorder, prepared: Prepared, kernel: NodeKernel, progress: Progress) -> None:
        self._folder = folder
        self._recorder = recorder
        self._prepared = prepared
        self._progress = progress
        self._settings = recorder.state.settings
        self._plan = AddressPlan.of(self._settings)
        self._environment = {LAB_VARIABLE: str(folder.path)}
        self._kernel = kernel

    def run(self) -> None:
        """Start everything, as much as possible at the same time."""
        name = self._settings.name
        with self._progress.step(f"lab {name}: network, certificates and processes"):
            namespace = self._namespace()
            wire.lay(namespace, self._plan, self._settings.line_rate)
            identities = control_plane.write_identities(self._folder.pki, self._plan, name)
            for component in control_plane.components(self._prepared.binaries, self._folder.pki, self._plan):
                self._start(namespace, component.name, component.argv)
            self._start_nodes(namespace, identities)
            self._forward(namespace, identities)
        client = LabClient(Api.from_kubeconfig(str(self._folder.kubeconfig)))
        with self._progress.step(f"lab {name}: control plane"):
            self._wait(client.answers, "the API server to be ready", _API_S)
            for manifest in manifests(self._settings, self._plan, self._prepared.images):
                self._create(client, manifest)
        with self._progress.step(f"lab {name}: nodes Ready") as step:
            self._wait(lambda: _is_done(step, _unready_nodes(client, len(self._plan.nodes))), "every node to be Ready", _READY_S)
        with self._progress.step(f"lab {name}: {' and '.join(self._pods)}") as step:
            self._wait(lambda: _is_done(step, _unready_pods(client)), "the pods of the system to be ready", _READY_S)
        if self._network.routes_by == "bird":
            with self._progress.step(f"lab {name}: BGP sessions") as step:
                self._wait(lambda: _is_done(step, self._sessions_down()), "every BGP session to be established", _READY_S)
        client.api.close()
        self._recorder.update(phase="running", images=dict(self._prepared.images))

    @property
    def _pods(self) -> tuple[str, ...]:
        """Whose pods the lab waits for."""
        if self._network.routes_by == "cilium":
            return "Cilium", "CoreDNS"
        return ("CoreDNS",) if self._settings.proxy_mode == "none" else ("kube-proxy", "CoreDNS")

    @property
    def _network(self) -> Network:
        return NETWORKS[self._settings.network]

    def _sessions_down(self) -> list[str]:
        """Give the nodes' BGP sessions that their logs do not call up yet, as node:peer."""
        missing = []
        for node in self._plan.nodes:
            log = _text(self._folder.node(node.name) / "log" / "bird.log")
            peers = [peer.name for peer in self._plan.nodes if peer.name != node.name]
            missing += [f"{node.name}:{peer}" for peer in peers if f"{bird_protocol(peer)}: State changed to up" not in log]
        return missing

    def _namespace(self) -> Namespace:
        self._folder.logs.mkdir()
        log = self._folder.logs / "namespace.log"
        keeper = start_keeper(log, self._environment)
        self._recorder.add(keeper)
        namespace = open_namespace(keeper, log)
        self._recorder.update(network_namespace=namespace.inode)
        return namespace

    def _start(
        self,
        namespace: Namespace,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> ProcessRef:
        log = self._folder.logs / f"{name}.log"
        started = namespace.start(name, argv, log=log, environment={**self._environment, **(environment or {})}, pass_fds=pass_fds)
        self._recorder.add(started)
        return started

    def _start_nodes(self, namespace: Namespace, identities: control_plane.Identities) -> None:
        key, line = ssh_pair(f"k8snet-lab-{self._settings.name}")
        write_file(self._folder.ssh / "id_ed25519", key, mode=0o600)
        writer = NodeWriter(self._settings, self._plan, self._prepared, self._kernel, identities, line)
        known_hosts, started = "", []
        for node in self._plan.nodes:
            known_hosts += f"{node.name} {writer.write(node, self._folder.node(node.name))}\n"
            command = self._kernel.command(node, self._folder.node(node.name), NODE_MEMORY_MIB)
            started.append(self._start(namespace, node.name, command, environment=self._kernel.environment))
        if self._kernel.loses_its_timer:
            nodes = [f"{process.pid}:{process.start_ticks}" for process in started]
            self._start(namespace, "awake", [sys.executable, "-m", "pytest_k8snet.lab.awake", *nodes])
        write_file(self._folder.ssh / "known_hosts", known_hosts)

    def _forward(self, namespace: Namespace, identities: control_plane.Identities) -> None:
        """Open the ports on 127.0.0.1 and write the files that name them."""
        targets = {"api": f"127.0.0.1:{API_PORT}", **{node.name: host_and_port(node.address, SSH_PORT) for node in self._plan.nodes}}
        with ExitStack() as opened:
            sockets = {name: opened.enter_context(socket.create_server(("127.0.0.1", 0))) for name in targets}
            ports = {name: int(listening.getsockname()[1]) for name, listening in sockets.items()}
            numbers = [listening.fileno() for listening in sockets.values()]
            arguments = [f"{number}={target}" for number, target in zip(numbers, targets.values(), strict=True)]
            argv = [sys.executable, "-m", "pytest_k8snet.lab.forward", *arguments]
            self._start(namespace, "forward", argv, pass_fds=numbers)
        self._recorder.update(ports=ports)
        write_file(self._folder.ssh / "config", "".join(self._ssh_config(ports)), mode=0o600)
        text = kubeconfig(
            cluster=f"k8snet-lab-{self._settings.name}",
            user="kubernetes-admin",
            server=f"https://127.0.0.1:{ports['api']}",
            authority=identities.authority.pair.certificate,
            pair=identities.admin,
        )
        write_file(self._folder.kubeconfig, text, mode=0o600)

    def _ssh_config(self, ports: Mapping[str, int]) -> Iterator[str]:
        for node in self._plan.nodes:
            yield f"Host {node.name}\n    Port {ports[node.name]}\n    HostKeyAlias {node.name}\n"
        yield (
            "Host *\n    HostName 127.0.0.1\n    User root\n    BatchMode yes\n    StrictHostKeyChecking yes\n    LogLevel ERROR\n"
            f'    UserKnownHostsFile "{self._folder.ssh / "known_hosts"}"\n    IdentityFile "{self._folder.ssh / "id_ed25519"}"\n'
            "    IdentitiesOnly yes\n    ConnectTimeout 60\n"
        )

    def _create(self, client: LabClient, manifest: Mapping[str, Any]) -> None:
        """Create an object as soon as the API server has what it stands on (its namespace, its roles)."""

        def is_created() -> bool:
            try:
                client.create(manifest)
            except ApiError as error:
                if error.status == 409:
                    # Somebody was quicker: the kubelet, which does not know its node's range, or this program, and the answer was lost.
                    if manifest["kind"] == "Node":
                        client.change(manifest, lambda found: found | {"spec": found["spec"] | manifest["spec"]})
                elif error.status not in (403, 404, 500, 503):
                    raise
                else:
                    return False
            except ApiUnreachableError:
                return False
            return True

        self._wait(is_created, f"{manifest['kind']} {manifest['metadata']['name']} to be taken by the API server", _API_S)

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Return when the condition holds; raise a LabError when a process ends or the deadline passes."""
        name = self._settings.name
        timeout_s *= self._kernel.patience
        deadline = time.monotonic() + timeout_s
        while not condition():
            if ended := [process.name for process in self._recorder.state.processes if not process.is_running]:
                raise LabError(
                    f"{ended[0]} of lab {name} has ended; its last words:\n{_tail(self._folder.logs / f'{ended[0]}.log')}\n{_advice(name)}"
                )
            if time.monotonic() > deadline:
                raise LabError(f"lab {name}: waited {timeout_s:.0f} s for {what}. {_advice(name)}")
            time.sleep(_POLL_S)


def _advice(name: str) -> str:
    return f"See `k8snet lab logs --name {name}`, then remove it: k8snet lab down --name {name}"


def _is_done(step: Step, missing: Sequence[str]) -> bool:
    step.note(f"waiting for {', '.join(missing)}" if missing else "")
    return not missing


def _unready_nodes(client: LabClient, count: int) -> list[str]:
    """Give the names of nodes that are not Ready; a placeholder for those that are not there yet."""
    try:
        nodes = [*client.api.list("/api/v1/nodes")]
    except (ApiError, ApiUnreachableError):
        return ["the API server"]
    unready = [node["metadata"]["name"] for node in nodes if not _has_condition(node, "Ready")]
    return unready if len(nodes) == count else [*unready, f"{count - len(nodes)} more"]


def _unready_pods(client: LabClient) -> list[str]:
    """Give what of the system's own workloads is not complete."""
    try:
        sets = [*client.api.list("/apis/apps/v1/daemonsets")]
        deployments = [*client.api.list("/apis/apps/v1/deployments")]
    except (ApiError, ApiUnreachableError):
        return ["the API server"]
    missing = []
    for item in sets:
        status = item.get("status", {})
        if not status.get("desiredNumberScheduled") or status.get("numberReady") != status["desiredNumberScheduled"]:
            missing.append(f"{item['metadata']['name']} ({status.get('numberReady', 0)} of {status.get('desiredNumberScheduled', 0)})")
    for item in deployments:
        ready, wanted = item.get("status", {}).get("readyReplicas", 0), item["spec"]["replicas"]
        if ready != wanted:
            missing.append(f"{item['metadata']['name']} ({ready} of {wanted})")
    return missing


def _has_condition(item: Mapping[str, Any], kind: str) -> bool:
    return any(entry["type"] == kind and entry["status"] == "True" for entry in item.get("status", {}).get("conditions", ()))


def _end_processes(folder: LabFolder, state: LabState | None) -> None:
    """End every process of the lab: nodes first, then all others, the namespaces' keeper last; and with them namespaces and taps.

    Without a state that can be read, the processes are those that carry the lab's name in their environment.
    """
    known: tuple[ProcessRef, ...] = ()
    if state is not None:
        if state.boot_id != processes.boot_id():
            return  # they ended with the machine
        known = state.processes
    recorded = [process for process in known if process.is_running]
    nodes = {node.name for node in AddressPlan.of(state.settings).nodes} if state is not None else set()
    processes.end([process for process in recorded if process.name in nodes], grace_s=_GRACE_S)
    processes.end([process for process in recorded if process.name not in nodes and process is not known[0]], grace_s=_GRACE_S)
    processes.end(_strays(folder, state, recorded), grace_s=_GRACE_S)
    processes.end(recorded, grace_s=_GRACE_S)


def _strays(folder: LabFolder, state: LabState | None, recorded: Sequence[ProcessRef]) -> list[ProcessRef]:
    """Give what else is the lab's: started and not yet written down, children of nodes, commands that somebody entered it with.

    A namespace's number is used again when it is gone. It is this lab's for sure while its keeper runs; without, only what names the lab
    in its environment is the lab's, or on its command line when it is in that namespace.
    """
    keeper = state.processes[0] if state is not None and state.processes else None
    spared = {os.getpid(), *({keeper.pid} if keeper is not None else ())}
    inside = processes.in_network_namespace(state.network_namespace) if state is not None else []
    if keeper is None or keeper not in recorded:
        inside = [process for process in inside if f"{folder.path}/" in processes.command_line(process)]
    named = [process for process in processes.running() if processes.environment(process).get(LAB_VARIABLE) == str(folder.path)]
    found = {process.pid: process for process in [*named, *inside]}
    return [process for pid, process in found.items() if pid not in spared]


def _state_of(folder: LabFolder) -> LabState | None:
    """Read the state of a lab that is to be removed; None when it is damaged or of another version."""
    try:
        return folder.read() if folder.has_state else None
    except LabError:
        return None


def _text(log: Path) -> str:
    try:
        return log.read_text(errors="replace")
    except OSError:
        return ""


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(_text(log).splitlines()[-lines:]) or "(none)"
