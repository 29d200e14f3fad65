"""The way to nodes and pods through the API server: one exec per probe pod, and over it the agent's JSON lines.

The frames of an exec are read here and not by the `kubernetes` package's stream(): that one changes the client it is given for all threads,
returns partial output as if it were all, and takes a stream that ended without a status for a success.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode

import websocket
from kubernetes.stream import ws_client

from pytest_k8snet.access.base import PATIENCE_S, Agent, Deadline
from pytest_k8snet.access.client import AGENT_ARGV, AgentClient, Patience
from pytest_k8snet.access.lines import Lines
from pytest_k8snet.access.probes import Probe, pod_state
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import (
    AccessError,
    AuthenticationError,
    ClusterError,
    CommandTimeout,
    ConnectError,
    ExecTransportError,
    ProbeError,
)

CONTAINER = "probe"

_STDIN, _STDOUT, _STDERR, _STATUS = 0, 1, 2, 3
_CHUNK = 32 * 1024
_NO_PROGRAM = "executable file not found"  # what runc and crun say; the image will not have it a moment later either


class ExecStream:
    """One command running in a pod, with its stdin and stdout. Not for several threads at once."""

    def __init__(self, api: Api, namespace: str, pod: str, argv: Sequence[str], deadline: Deadline, *, container: str = CONTAINER) -> None:
        self.where = f"pod {namespace}/{pod}"
        self._api = api
        self._namespace = namespace
        self._pod = pod
        self._container = container
        self._lines = Lines()
        self._stderr = b""
        self._status: dict[str, Any] | None = None
        self._socket = self._connect(argv, deadline)

    def write(self, data: bytes) -> None:
        """Send `data` to the command's stdin."""
        try:
            for start in range(0, len(data), _CHUNK):
                self._socket.send(bytes([_STDIN]) + data[start : start + _CHUNK], opcode=websocket.ABNF.OPCODE_BINARY)
        except (websocket.WebSocketException, OSError) as error:
            raise self._why(error) from error

    def read_line(self, deadline: Deadline) -> bytes:
        """Return the next line of stdout without its end.

        Raises `CommandTimeout` at the deadline, `AccessError` when the command ended, `ExecTransportError` when the stream did.
        """
        return self._lines.next(lambda: self._read_frame(deadline), lambda: self._ended("closed"))

    def read_to_end(self, deadline: Deadline) -> bytes:
        """Return everything that the command writes to stdout.

        Raises `CommandTimeout` at the deadline, `AccessError` when it did not end well, `ExecTransportError` when the stream broke.
        """
        while self._status is None:
            self._read_frame(deadline)
        if self._status.get("status") != "Success":
            raise self._ended("ended")
        return self._lines.rest()

    @property
    def alive(self) -> bool:
        """Whether nothing says that the stream has ended: looks at what has arrived, without waiting."""
        if not self._socket.connected:
            return False
        try:
            while True:
                self._read_frame(Deadline.after(0.0))
        except CommandTimeout:
            return True
        except AccessError:
            return False

    def close(self) -> None:
        """End the stream; the command sees the end of its stdin."""
        with suppress(websocket.WebSocketException, OSError):
            self._socket.close(timeout=1)
        # After a close from the other side the line above leaves the socket open.
        shutdown: Any = self._socket.shutdown
        shutdown()

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods/{self._pod}"

    def _why(self, error: Exception) -> AccessError:
        """Return why nothing more can be written: a command that ended has said so in what is still to be read."""
        try:
            while True:
                self._read_frame(Deadline.after(0.5))
        except CommandTimeout:
            return ExecTransportError(f"{self.where}: the exec stream broke: {_text(error)}")
        except AccessError as ended:
            return ended

    def _read_frame(self, deadline: Deadline) -> None:
        try:
            # A zero timeout would make the socket non-blocking, which it cannot be in the middle of a TLS record.
            self._socket.settimeout(max(deadline.remaining, 0.001))
            opcode, data = self._socket.recv_data(control_frame=False)
        except (websocket.WebSocketTimeoutException, TimeoutError, ssl.SSLWantReadError) as error:
            raise CommandTimeout(f"{self.where}: no answer within {deadline.seconds:g} s") from error
        except (websocket.WebSocketException, OSError) as error:
            raise self._ended(_text(error)) from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise self._ended("closed")
        if not data:
            return
        channel, payload = data[0], data[1:]
        if channel == _STDOUT and payload:  # what is empty only says that the channel is there
            self._lines.add(payload)
        elif channel == _STDERR:
            self._stderr = (self._stderr + payload)[-2000:]
        elif channel == _STATUS:
            try:
                self._status = json.loads(payload)
            except ValueError:
                self._status = {"message": payload.decode("utf-8", "replace")}

    def _ended(self, how: str) -> AccessError:
        stderr = self._stderr.decode("utf-8", "replace").strip()[-500:]
        if self._status is None:
            return ExecTransportError(
                f"{self.where}: the exec stream ended without telling how its command ended ({how})" + (f": {stderr}" if stderr else "")
            )
        message = self._status.get("message") or self._status.get("status") or "ended"
        text = f"{message}: {stderr}" if stderr and stderr not in message else message
        # What a command's own end looks like has the reason NonZeroExitCode; this one says that the kubelet could not start it or lost it.
        # https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/kubelet/pkg/cri/streaming/remotecommand/exec.go
        if self._status.get("reason") == "InternalError" and _NO_PROGRAM not in message:
            return self._lost(text, gone=None)
        return AccessError(f"{self.where}: the agent ended: {text}")

    def _lost(self, text: str, *, gone: str | None) -> AccessError:
        """Return what is to be said of a container that exec does not reach: its pod may have ended, which is seen a moment later."""
        try:
            found = [*self._api.list(f"/api/v1/namespaces/{self._namespace}/pods", fieldSelector=f"metadata.name={self._pod}")]
        except ClusterError:
            pass
        else:
            # A kubelet that has just started says 404 as well, and knows its pods a moment later.
            gone = pod_state(found[0] if found else None).error
        return ExecTransportError(f"{self.where}: {text}") if gone is None else ProbeError(f"{self.where}: the probe pod {gone}")

    def _connect(self, argv: Sequence[str], deadline: Deadline) -> websocket.WebSocket:
        api = self._api
        configuration = api.configuration
        query = [("container", self._container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
        base = "ws" + api.server.rstrip("/").removeprefix("http")
        headers = [f"{key}: {value}" for key, value in api.authorization().items()]
        headers.append("sec-websocket-protocol: v5.channel.k8s.io,v4.channel.k8s.io")
        tls: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE}
        if configuration.verify_ssl:
            tls = {"cert_reqs": ssl.CERT_REQUIRED}
            if configuration.ssl_ca_cert:
                tls["ca_certs"] = configuration.ssl_ca_cert
            if configuration.assert_hostname is not None:
                tls["check_hostname"] = configuration.assert_hostname
        for option, value in (
            ("certfile", configuration.cert_file),
            ("keyfile", configuration.key_file),
            ("server_hostname", configuration.tls_server_name),
        ):
            if value:
                tls[option] = value
        url = f"{base}{self._path}/exec?{urlencode([*(('command', word) for word in argv), *query])}"
        options: dict[str, Any] = {"header": headers, "timeout": max(deadline.remaining, 0.1)}
        if configuration.proxy or configuration.proxy_headers:
            proxied: Any = ws_client.websocket_proxycare
            options = proxied(options, configuration, url, None)
        connection = websocket.WebSocket(sslopt=tls, sockopt=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
        connect: Any = connection.connect
        try:
            connect(url, **options)
        except websocket.WebSocketBadStatusException as error:
            raise self._refused(error) from error
        except (websocket.WebSocketTimeoutException, TimeoutError) as error:
            raise CommandTimeout(f"{self.where}: exec not open within {deadline.seconds:g} s") from error
        except (websocket.WebSocketException, OSError) as error:
            raise ConnectError(f"{self.where}: no exec through {api.server}: {_text(error)}") from error
        return connection

    def _refused(self, error: websocket.WebSocketBadStatusException) -> AccessError:
        status = error.status_code
        body = getattr(error, "resp_body", None) or b""
        try:
            message = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            message = (body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)).strip()[:500] or "no message"
        text = f"{self.where}: exec refused with HTTP {status}: {message}"
        if status == 401:
            return AuthenticationError(f"{text}. {self._api.server} does not accept the credentials of {self._api.origin}")
        if status == 403:
            hint = self._api.hint("POST", f"{self._path}/exec")
            return AuthenticationError(f"{text}. Exec needs the verbs create and get. {hint}")
        return self._lost(
            f"exec refused with HTTP {status}: {message}",
            gone="is gone: was it evicted, or its namespace deleted?" if status == 404 else None,
        )


class PodAccess:
    """Access to the nodes of a run through their probe pods."""

    def __init__(self, api: Api, probes: Mapping[str, Probe], *, patience_s: float = PATIENCE_S) -> None:
        self._api = api
        self._probes = probes
        self._patience = Patience(patience_s)
        self._agents: dict[tuple[str, str], AgentClient] = {}
        self._lock = threading.Lock()

    def host(self, node: str) -> Agent:
        """Return the agent in the host namespaces of `node`; `ProbeError` when its probe pods do not run."""
        return self._agent(node, "host")

    def pod(self, node: str) -> Agent:
        """Return the agent in the unprivileged probe pod on `node`; `ProbeError` when its probe pods do not run."""
        return self._agent(node, "pod")

    def close(self) -> None:
        """End all agents."""
        with self._lock:
            agents, self._agents = [*self._agents.values()], {}
        for agent in agents:
            agent.close()

    def _agent(self, node: str, role: str) -> AgentClient:
        probe = self._probes.get(node)
        if probe is None:
            raise ProbeError(f"{node}: no probe pods were made on this node")
        if probe.error is not None:
            raise ProbeError(probe.error)
        with self._lock:
            agent = self._agents.get((node, role))
            if agent is None:
                pod = probe.host_pod if role == "host" else probe.pod
                where = f"{node} (host)" if role == "host" else f"{node} (pod {pod})"
                opening = partial(ExecStream, self._api, probe.namespace, pod, AGENT_ARGV)
                agent = self._agents[node, role] = AgentClient(where, opening, self._patience)
            return agent


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
