"""Which processes are ended with a lab, in which order, and what a start waits for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_error import ApiError, ApiUnreachableError
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import cluster, processes
from pytest_k8snet.lab.client import LabClient
from pytest_k8snet.lab.kernel import UserModeLinux
from pytest_k8snet.lab.processes import ProcessRef, boot_id
from pytest_k8snet.lab.progress import SilentProgress
from pytest_k8snet.lab.settings import LabSettings
from pytest_k8snet.lab.state import LabFolder, LabState, Recorder
from tests.unit.fakeapi import FakeApiServer, status
from tests.unit.lab.samples import prepared, running, this_process

KEEPER, NODE, ETCD = ProcessRef("namespace", 10, 1), ProcessRef("node-1", 11, 1), ProcessRef("etcd", 12, 1)
SHELL, OTHERS = ProcessRef("process 13", 13, 1), ProcessRef("process 14", 14, 1)
INODE = 4026532000


class Machine:
    """Processes that are not there: which run, which are in the lab's namespace, which have been ended."""

    def __init__(self) -> None:
        self.inside: list[ProcessRef] = []
        self.outside: list[ProcessRef] = []
        self.command_lines: dict[int, str] = {}
        self.environments: dict[int, dict[str, str]] = {}
        self.alive: set[int] = set()
        self.ended: list[list[str]] = []

    def in_network_namespace(self, inode: int) -> list[ProcessRef]:
        return self.inside if inode == INODE else []

    def running(self) -> list[ProcessRef]:
        return [*self.inside, *self.outside]

    def command_line(self, process: ProcessRef) -> str:
        return self.command_lines.get(process.pid, "")

    def environment(self, process: ProcessRef) -> dict[str, str]:
        return self.environments.get(process.pid, {})

    def end(self, asked: Any, *, grace_s: float) -> None:
        assert grace_s > 0
        names = [process.name for process in asked if process.pid in self.alive]
        self.alive -= {process.pid for process in asked}
        if names:
            self.ended.append(names)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    for name in ("in_network_namespace", "running", "command_line", "environment", "end"):
        monkeypatch.setattr(processes, name, getattr(made, name))
    monkeypatch.setattr(ProcessRef, "is_running", property(lambda process: process.pid in made.alive))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> LabFolder:
    return LabFolder("mine", tmp_path)


def state(*known: ProcessRef, inode: int = INODE) -> LabState:
    return LabState(LabSettings(name="mine"), boot_id(), phase="running", network_namespace=inode, processes=known)


def strays(machine: Machine, folder: LabFolder, known: LabState, *inside: ProcessRef) -> list[str]:
    machine.inside = list(inside)
    return [process.name for process in cluster._strays(folder, known, [item for item in known.processes if item.pid in machine.alive])]


def test_all_in_a_namespace_whose_keeper_runs_is_the_labs(machine: Machine, folder: LabFolder) -> None:
    machine.alive = {10, 11, 13}
    assert strays(machine, folder, state(KEEPER, NODE), KEEPER, NODE, SHELL) == ["node-1", "process 13"]


def test_the_command_that_stops_the_lab_is_spared(machine: Machine, folder: LabFolder) -> None:
    machine.alive = {10}
    own = ProcessRef("process", os.getpid(), 1)
    assert strays(machine, folder, state(KEEPER), KEEPER, own, SHELL) == ["process 13"]


def test_without_its_keeper_a_namespace_may_be_anybodys(machine: Machine, folder: LabFolder) -> None:
    machine.environments = {13: {"K8SNET_LAB": str(folder.path)}, 14: {"K8SNET_LAB": f"{folder.path}-other"}}
    assert strays(machine, folder, state(KEEPER, NODE), SHELL, OTHERS, ProcessRef("process 15", 15, 1)) == ["process 13"]


def test_orphans_of_a_killed_node_are_known_by_its_command_line(machine: Machine, folder: LabFolder) -> None:
    """They have the node's command line, and an environment that tells nothing."""
    machine.command_lines = {
        13: f"linux.uml -c mount -o {folder.path}/nodes/node-1",
        14: f"linux.uml -c mount -o {folder.path}-other/nodes",
    }
    machine.outside = [ProcessRef("process 16", 16, 1)]  # somebody who reads a log
    machine.command_lines[16] = f"tail -f {folder.path}/logs/etcd.log"
    assert strays(machine, folder, state(KEEPER, NODE), SHELL, OTHERS) == ["process 13"]


def test_a_lab_whose_state_is_damaged_is_ended_by_its_name(machine: Machine, folder: LabFolder) -> None:
    folder.path.mkdir()
    (folder.path / "state.json").write_text("{")
    machine.alive = {13, 14}
    machine.outside = [SHELL, OTHERS]
    machine.environments = {13: {"K8SNET_LAB": str(folder.path)}}
    cluster._end_processes(folder, cluster._state_of(folder))
    assert machine.ended == [["process 13"]]


def test_a_start_that_got_no_namespace_has_no_strays(machine: Machine, folder: LabFolder) -> None:
    machine.alive = {10}
    assert strays(machine, folder, state(KEEPER, inode=0), SHELL) == []
    assert strays(machine, folder, state(inode=0), SHELL) == []


def test_nodes_end_first_and_the_keeper_last(machine: Machine, folder: LabFolder) -> None:
    machine.alive = {10, 11, 12, 13}
    machine.inside = [KEEPER, NODE, ETCD, SHELL]
    cluster._end_processes(folder, state(KEEPER, ETCD, NODE))
    assert machine.ended == [["node-1"], ["etcd"], ["process 13"], ["namespace"]]


def test_nothing_of_another_boot_is_ended(machine: Machine, folder: LabFolder) -> None:
    machine.alive = {10, 11, 12}
    cluster._end_processes(folder, replace(state(KEEPER, NODE), boot_id="another"))
    assert machine.ended == []


def test_what_a_killed_start_left_makes_way(machine: Machine, folder: LabFolder) -> None:
    folder.path.mkdir()
    folder.write(replace(state(KEEPER, ETCD), phase="starting"))
    (folder.path / "pki").mkdir()
    machine.alive = {12}
    with folder.locked():
        cluster._make_way(folder, SilentProgress())
        assert machine.ended == [["etcd"]]
        assert list(folder.path.iterdir()) == []
        cluster._make_way(folder, SilentProgress())


def test_a_lab_that_runs_does_not_make_way(tmp_path: Path) -> None:
    folder = running(tmp_path, LabSettings(name="mine"))
    with folder.locked(), pytest.raises(LabError, match=r"^lab mine runs already; stop it first: k8snet lab down --name mine$"):
        cluster._make_way(folder, SilentProgress())
    assert folder.read().processes == (this_process(),)


def test_down_removes_the_folder(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = LabFolder("mine")
    assert not cluster.down("mine", SilentProgress())
    folder.path.mkdir(parents=True)
    folder.write(state(KEEPER, NODE))
    machine.alive = {10, 11}
    assert cluster.down("mine", SilentProgress())
    assert machine.ended == [["node-1"], ["namespace"]]
    assert not folder.exists
    folder.path.mkdir()
    assert cluster.down("mine", SilentProgress()), "a start that was killed before it wrote down anything"
    assert not folder.exists


@pytest.fixture
def client(api: Api) -> LabClient:
    return LabClient(api)


def node(name: str, ready: str | None) -> dict[str, Any]:
    conditions = [{"type": "MemoryPressure", "status": "True"}, *([] if ready is None else [{"type": "Ready", "status": ready}])]
    return {"metadata": {"name": name}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("nodes", "waiting_for"),
    [
        ([node("node-1", "True"), node("node-2", "True")], []),
        ([node("node-1", "True"), node("node-2", "False")], ["node-2"]),
        ([node("node-1", "Unknown"), {"metadata": {"name": "node-2"}}], ["node-1", "node-2"]),
        ([node("node-1", None)], ["node-1", "1 more"]),
        ([], ["2 more"]),
    ],
)
def test_a_start_waits_for_every_node(
    server: FakeApiServer, client: LabClient, nodes: list[dict[str, Any]], waiting_for: list[str]
) -> None:
    server.items("/api/v1/nodes", *nodes)
    assert cluster._unready_nodes(client, 2) == waiting_for


def daemon_set(**counts: int) -> dict[str, Any]:
    return {"metadata": {"name": "kube-proxy"}, "status": counts}


def deployment(**counts: int) -> dict[str, Any]:
    return {"metadata": {"name": "coredns"}, "spec": {"replicas": 2}, "status": counts}


@pytest.mark.parametrize(
    ("sets", "deployments", "waiting_for"),
    [
        ([daemon_set(desiredNumberScheduled=2, numberReady=2)], [deployment(readyReplicas=2)], []),
        ([], [deployment(readyReplicas=2)], []),
        ([daemon_set(desiredNumberScheduled=0, numberReady=0)], [deployment(readyReplicas=2)], ["kube-proxy (0 of 0)"]),
        ([daemon_set(desiredNumberScheduled=2, numberReady=1)], [deployment(readyReplicas=1)], ["kube-proxy (1 of 2)", "coredns (1 of 2)"]),
        ([daemon_set()], [deployment()], ["kube-proxy (0 of 0)", "coredns (0 of 2)"]),
    ],
)
def test_a_start_waits_for_the_clusters_own_pods(
    server: FakeApiServer,
    client: LabClient,
    sets: list[dict[str, Any]],
    deployments: list[dict[str, Any]],
    waiting_for: list[str],
) -> None:
    server.items("/apis/apps/v1/daemonsets", *sets)
    server.items("/apis/apps/v1/deployments", *deployments)
    assert cluster._unready_pods(client) == waiting_for


def test_an_api_server_that_does_not_answer_is_waited_for(client: LabClient) -> None:
    assert cluster._unready_nodes(client, 2) == ["the API server"]
    assert cluster._unready_pods(client) == ["the API server"]


NODE_MANIFEST = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "spec": {"podCIDR": "10.200.1.0/24"}}
MAP_MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "coredns"}}


@pytest.fixture
def start(folder: LabFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cluster.Start:
    monkeypatch.setattr(cluster, "_POLL_S", 0.0)
    folder.logs.mkdir(parents=True)
    return cluster.Start(
        folder, Recorder(folder, LabSettings(name="mine")), prepared(tmp_path), UserModeLinux(prepared(tmp_path)), SilentProgress()
    )


def in_turn(*codes: int) -> Any:
    left = list(codes)
    return lambda *_: status(left.pop(0), "Reason", "message") if len(left) > 1 else (left[0], {})


@pytest.mark.parametrize("codes", [(201,), (403, 201), (404, 404, 201), (500, 503, 201)])
def test_objects_are_made_as_soon_as_the_api_server_takes_them(
    server: FakeApiServer, client: LabClient, start: cluster.Start, codes: tuple[int, ...]
) -> None:
    server.routes["POST", "/api/v1/namespaces/kube-system/configmaps"] = in_turn(*codes)
    start._create(client, MAP_MANIFEST)
    assert len(server.asked("POST")) == len(codes)


def test_an_object_that_is_wrong_is_not_tried_again(server: FakeApiServer, client: LabClient, start: cluster.Start) -> None:
    server.routes["POST", "/api/v1/namespaces/kube-system/configmaps"] = status(422, "Invalid", "no")
    with pytest.raises(ApiError):
        start._create(client, MAP_MANIFEST)
    assert len(server.asked("POST")) == 1


def test_an_object_whose_answer_was_lost_is_there(server: FakeApiServer, client: LabClient, start: cluster.Start) -> None:
    server.routes["POST", "/api/v1/namespaces/kube-system/configmaps"] = status(409, "AlreadyExists", "it is there")
    start._create(client, MAP_MANIFEST)
    assert server.asked("PUT") == []


def test_an_api_server_that_cannot_be_reached_is_tried_again(
    client: LabClient, start: cluster.Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def create(manifest: Any) -> None:
        tries.append(manifest["kind"])
        if len(tries) == 1:
            raise ApiUnreachableError("no connection")

    monkeypatch.setattr(client, "create", create)
    start._create(client, MAP_MANIFEST)
    assert tries == ["ConfigMap", "ConfigMap"]


def test_a_kubelet_that_was_quicker_gets_the_range(server: FakeApiServer, client: LabClient, start: cluster.Start) -> None:
    server.routes["POST", "/api/v1/nodes"] = status(409, "AlreadyExists", "it is there")
    found = {"metadata": {"name": "node-1", "resourceVersion": "3", "labels": {"its": "own"}}, "spec": {"taints": []}}
    server.routes["GET", "/api/v1/nodes/node-1"] = (200, found)
    server.routes["PUT", "/api/v1/nodes/node-1"] = (200, {})
    start._create(client, NODE_MANIFEST)
    sent = server.requests[-1][3]
    assert sent["spec"] == {"taints": [], "podCIDR": "10.200.1.0/24"}
    assert sent["metadata"] == found["metadata"]


def test_a_process_that_ends_during_a_start_leaves_its_last_words(start: cluster.Start, folder: LabFolder) -> None:
    start._recorder.add(this_process())
    start._recorder.add(replace(this_process(), name="etcd", start_ticks=1))
    (folder.logs / "etcd.log").write_text("".join(f"line {number}\n" for number in range(100)))
    with pytest.raises(LabError) as error:
        start._wait(lambda: False, "nothing", 60)
    text = str(error.value)
    assert text.startswith("etcd of lab mine has ended; its last words:\nline 85\n")
    assert text.endswith("line 99\nSee `k8snet lab logs --name mine`, then remove it: k8snet lab down --name mine")


def test_a_start_does_not_wait_for_ever(start: cluster.Start) -> None:
    with pytest.raises(LabError, match=r"^lab mine: waited 0 s for the moon\. See `k8snet lab logs --name mine`"):
        start._wait(lambda: False, "the moon", 0)


def test_a_start_waits_for_every_bgp_session(start: cluster.Start, folder: LabFolder) -> None:
    logs = {name: folder.node(name) / "log/bird.log" for name in ("node-1", "node-2", "node-3")}
    assert len(start._sessions_down()) == 6, "there is no log yet"
    for name, log in logs.items():
        log.parent.mkdir(parents=True)
        peers = [other.replace("-", "_") for other in logs if other != name]
        log.write_text("".join(f"2026-11-25 12:00:00.000 <TRACE> {peer}: State changed to up\n" for peer in peers))
    logs["node-2"].write_text("<TRACE> node_1: State changed to up\n<TRACE> node_3: State changed to start\n")
    assert start._sessions_down() == ["node-2:node-3"]


def test_ssh_knows_every_node_by_a_port_on_loopback(start: cluster.Start, folder: LabFolder) -> None:
    ports = {"api": 1, "node-1": 4001, "node-2": 4002, "node-3": 4003}
    text = "".join(start._ssh_config(ports))
    assert "Host node-2\n    Port 4002\n    HostKeyAlias node-2\n" in text
    assert "    HostName 127.0.0.1\n" in text
    assert "    StrictHostKeyChecking yes\n" in text
    assert f'    UserKnownHostsFile "{folder.ssh}/known_hosts"\n' in text
