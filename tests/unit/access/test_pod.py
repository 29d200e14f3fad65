from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.base import run
from pytest_k8snet.access.pod import PodAccess
from pytest_k8snet.access.probes import Probe
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import (
    AccessError,
    AuthenticationError,
    CommandTimeout,
    ConnectError,
    ExecTransportError,
    ProbeError,
)
from tests.unit.fakeapi import FakeApiServer, read_frame, read_program, run_locally, send_frame, status, write_kubeconfig

EXEC = "/api/v1/namespaces/k8snet-r1/pods/host-node-1/exec"
PATIENCE_S = 60.0  # with a busy machine, never a measure


@contextmanager
def opened(server: FakeApiServer, tmp_path: Path, patience_s: float) -> Iterator[PodAccess]:
    api = Api.from_kubeconfig(str(write_kubeconfig(tmp_path / "config", server.url)))
    probes = {
        "node-1": Probe("node-1", "k8snet-r1", "host-node-1", "probe-node-1", "10.244.1.5"),
        "node-2": Probe("node-2", "k8snet-r1", "host-node-2", "probe-node-2", None, "node-2: pod x: ErrImagePull: no such image"),
    }
    access = PodAccess(api, probes, patience_s=patience_s)
    yield access
    access.close()
    api.close()


@pytest.fixture
def access(server: FakeApiServer, tmp_path: Path) -> Iterator[PodAccess]:
    with opened(server, tmp_path, 0.6) as access:
        yield access


@pytest.fixture
def patient(server: FakeApiServer, tmp_path: Path) -> Iterator[PodAccess]:
    with opened(server, tmp_path, PATIENCE_S) as access:
        yield access


def test_agent_runs_over_one_exec(access: PodAccess, server: FakeApiServer) -> None:
    agent = access.host("node-1")
    assert run(agent, ["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=PATIENCE_S).exit_status == 3
    assert run(agent, ["echo", "grüße"], timeout_s=PATIENCE_S).stdout == "grüße\n"
    assert run(agent, ["head", "-c", "300000", "/dev/zero"], timeout_s=PATIENCE_S).stdout == "\0" * 300000
    assert server.asked("GET") == [EXEC]
    assert agent.where == "node-1 (host)"
    assert access.pod("node-1").where == "node-1 (pod probe-node-1)"


def test_command_that_takes_too_long(access: PodAccess) -> None:
    agent = access.host("node-1")
    with pytest.raises(CommandTimeout, match=r"node-1 \(host\): run: sleep 30: no end within 0.2 s"):
        run(agent, ["sleep", "30"], timeout_s=0.2)
    assert run(agent, ["echo", "still there"], timeout_s=PATIENCE_S).stdout == "still there\n"


def test_agent_that_does_not_answer_is_replaced(access: PodAccess, server: FakeApiServer) -> None:
    agent = access.host("node-1")
    with pytest.raises(CommandTimeout, match=r"node-1 \(host\): run: .* no answer within 0.5 s"):
        agent.request("run", {"argv": ["sleep", "2"], "timeout_s": 20}, timeout_s=0.5)
    assert run(agent, ["echo", "new"], timeout_s=PATIENCE_S).stdout == "new\n"
    assert server.asked("GET") == [EXEC, EXEC]


def test_tool_that_is_missing(access: PodAccess) -> None:
    with pytest.raises(AccessError, match="no-such-tool: neither in the probe image nor on the node"):
        run(access.host("node-1"), ["no-such-tool"])


def test_stream_that_ends_without_status(access: PodAccess, server: FakeApiServer) -> None:
    def cut(sock: socket.socket, argv: list[str]) -> None:
        read_program(sock)
        send_frame(sock, b"\1" + json.dumps({"ready": 1}).encode() + b"\n")
        read_frame(sock)
        send_frame(sock, struct.pack(">H", 1001), opcode=8)

    server.exec = cut
    with pytest.raises(ExecTransportError, match="ended without telling how its command ended"):
        access.host("node-1").request("run", {"argv": ["true"]}, timeout_s=5)


def test_stream_that_was_cut_while_idle_is_opened_again(access: PodAccess, server: FakeApiServer) -> None:
    def cut(sock: socket.socket, argv: list[str]) -> None:
        read_program(sock)
        send_frame(sock, b"\1" + json.dumps({"ready": 1}).encode() + b"\n")
        request = json.loads(read_frame(sock)[1][1:])
        send_frame(sock, b"\1" + json.dumps({"id": request["id"], "result": "first"}).encode() + b"\n")
        sock.shutdown(socket.SHUT_RDWR)

    server.exec = cut
    agent = access.host("node-1")
    assert agent.request("x", timeout_s=PATIENCE_S) == "first"
    server.exec = run_locally
    assert run(agent, ["echo", "again"], timeout_s=PATIENCE_S).stdout == "again\n"


def test_way_that_is_closed_for_a_while(patient: PodAccess, server: FakeApiServer) -> None:
    def later(sock: socket.socket, argv: list[str]) -> None:
        if len(server.asked("GET")) < 3:
            sock.shutdown(socket.SHUT_RDWR)
        else:
            run_locally(sock, argv)

    server.exec = later
    assert run(patient.host("node-1"), ["echo", "back"], timeout_s=PATIENCE_S).stdout == "back\n"
    assert server.asked("GET") == [EXEC, EXEC, EXEC]


def test_way_that_stays_closed_is_waited_for_once(access: PodAccess, server: FakeApiServer) -> None:
    server.exec = lambda sock, argv: sock.shutdown(socket.SHUT_RDWR)
    for where, patient in ((access.host("node-1"), True), (access.pod("node-1"), False), (access.host("node-1"), False)):
        before = len(server.asked("GET"))
        with pytest.raises(ExecTransportError, match="ended without telling how its command ended"):
            where.request("facts", timeout_s=5)
        assert (len(server.asked("GET")) - before > 1) is patient
    server.exec = run_locally
    assert run(access.pod("node-1"), ["echo", "back"], timeout_s=PATIENCE_S).stdout == "back\n"


def test_image_without_python(access: PodAccess, server: FakeApiServer) -> None:
    def missing(sock: socket.socket, argv: list[str]) -> None:
        message = 'exec: "python3": executable file not found in $PATH'
        send_frame(sock, b"\3" + json.dumps({"status": "Failure", "reason": "InternalError", "message": message}).encode())
        send_frame(sock, struct.pack(">H", 1000), opcode=8)

    server.exec = missing
    with pytest.raises(
        AccessError, match=r'node-1 \(host\): facts: .*the agent ended: exec: "python3": executable file not found'
    ) as caught:
        access.host("node-1").request("facts", timeout_s=5)
    assert not isinstance(caught.value, ExecTransportError)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(401, "Unauthorized", "Unauthorized"), AuthenticationError, "does not accept the credentials"),
        (
            status(403, "Forbidden", 'pods "host-node-1" is forbidden: User "me" cannot create resource "pods/exec"'),
            AuthenticationError,
            "needs the verb create on pods/exec",
        ),
        (
            status(404, "NotFound", 'pods "host-node-1" not found'),
            ProbeError,
            "pod k8snet-r1/host-node-1: the probe pod is gone: was it evicted",
        ),
        (status(500, "InternalError", "error dialing backend: EOF"), ExecTransportError, "error dialing backend: EOF"),
    ],
    ids=["401", "403", "404", "500"],
)
def test_exec_refused(access: PodAccess, server: FakeApiServer, answer: tuple[int, object], error: type[Exception], words: str) -> None:
    server.routes["GET", EXEC] = answer
    with pytest.raises(error, match=words) as caught:
        access.host("node-1").request("facts", timeout_s=5)
    assert "top-secret" not in str(caught.value)
    assert (server.asked("GET").count(EXEC) > 1) is (error is ExecTransportError)


@pytest.mark.parametrize(
    ("pod_status", "words"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "the probe pod Evicted: The node was low on resource: memory.",
        ),
        (
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]},
            r"the probe pod OOMKilled \(exit status 137\): no message",
        ),
        (None, "the probe pod is gone; something deleted it"),
        (
            {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline"},
            "the probe pod DeadlineExceeded: Pod was active",
        ),
    ],
    ids=["evicted", "oom", "gone", "deadline"],
)
def test_probe_pod_that_ended_meanwhile(access: PodAccess, server: FakeApiServer, pod_status: dict[str, Any] | None, words: str) -> None:
    server.routes["GET", EXEC] = status(500, "InternalError", 'container not found ("probe")')
    pods = [{"metadata": {"name": "host-node-1"}, "status": pod_status}] if pod_status else []
    server.items("/api/v1/namespaces/k8snet-r1/pods", *pods)
    with pytest.raises(ProbeError, match=words):
        access.host("node-1").request("facts", timeout_s=5)
    assert server.asked("GET").count(EXEC) == 1


def test_container_that_ended_and_whose_pod_does_not_say_so_yet(patient: PodAccess, server: FakeApiServer) -> None:
    def lost(sock: socket.socket, argv: list[str]) -> None:
        ended = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}
        status = {"phase": "Running"} if server.asked("GET").count(EXEC) < 3 else ended
        # Before the answer: whoever has it may look at once.
        server.items("/api/v1/namespaces/k8snet-r1/pods", {"metadata": {"name": "host-node-1"}, "status": status})
        message = "error executing command in container: failed to exec in container: failed to load task: no running task found"
        send_frame(sock, b"\3" + json.dumps({"status": "Failure", "reason": "InternalError", "message": message}).encode())
        send_frame(sock, struct.pack(">H", 1000), opcode=8)

    server.items("/api/v1/namespaces/k8snet-r1/pods", {"metadata": {"name": "host-node-1"}, "status": {"phase": "Running"}})
    server.exec = lost
    with pytest.raises(ProbeError, match=r"the probe pod OOMKilled \(exit status 137\)"):
        patient.host("node-1").request("facts", timeout_s=30)
    assert server.asked("GET").count(EXEC) == 3


def test_no_api_server(access: PodAccess, server: FakeApiServer) -> None:
    server.close()
    with pytest.raises(ConnectError, match=r"no exec through http://127.0.0.1"):
        access.host("node-1").request("facts", timeout_s=5)


def test_node_whose_probe_failed(access: PodAccess) -> None:
    with pytest.raises(ProbeError, match="ErrImagePull: no such image"):
        access.host("node-2")
    with pytest.raises(ProbeError, match="node-9: no probe pods were made"):
        access.pod("node-9")


def test_kubelet_that_does_not_know_its_pods_yet(patient: PodAccess, server: FakeApiServer) -> None:
    def later(path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if server.asked("GET").count(EXEC) > 1:
            del server.routes["GET", EXEC]
        return status(404, "NotFound", "pod does not exist")

    server.routes["GET", EXEC] = later
    pod = {"metadata": {"name": "host-node-1"}, "status": {"phase": "Running"}}
    server.items("/api/v1/namespaces/k8snet-r1/pods", pod)
    assert run(patient.host("node-1"), ["echo", "back"], timeout_s=PATIENCE_S).stdout == "back\n"
