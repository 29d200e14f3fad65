"""A real sshd on loopback, by paramiko: it takes keys, runs commands here, forwards connections, and misbehaves when it is told to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from paramiko.common import (
    AUTH_FAILED,
    AUTH_PARTIALLY_SUCCESSFUL,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_SUCCEEDED,
)

from pytest_k8snet.access.known_hosts import HostKey, name_of

Exec = Callable[[paramiko.Channel, str], None]


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key in a file, and its public half."""

    path: Path
    public: bytes

    @property
    def fingerprint(self) -> str:
        return HostKey("ssh-ed25519", self.public).fingerprint


def make_key(path: Path, passphrase: str | None = None, *, kind: str = "ed25519") -> KeyFile:
    """Write a private key as ssh-keygen does."""
    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, 2048)
    encryption = serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase.encode())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption))
    path.chmod(0o600)
    loaded = paramiko.PKey.from_path(str(path), None if passphrase is None else passphrase.encode())  # type: ignore[arg-type]
    return KeyFile(path, loaded.asbytes())


class SshServer:
    """The server. Attributes may be changed while it runs."""

    def __init__(self, host_key: KeyFile, environment_path: str) -> None:
        self.host_key = host_key
        self.path = environment_path  # PATH of the commands
        self.authorized: set[bytes] = set()
        self.allowed = "publickey"  # as the server tells it
        self.further = False  # whether a key is not enough
        self.forwarding = True
        self.run: Exec = self.run_here
        self.commands: list[str] = []
        self.offered: list[str] = []
        self.most_offers = 100
        self.connections = 0
        self.forwarded: list[tuple[str, int]] = []
        self._transports: list[paramiko.Transport] = []
        self._listening: socket.socket | None = None
        self.port = 0

    def start(self) -> None:
        """Listen; a second time on the same port."""
        listening = socket.create_server(("127.0.0.1", self.port))
        self._listening, self.port = listening, listening.getsockname()[1]
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and end what is open."""
        if self._listening is not None:
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
        self.drop()

    def drop(self) -> None:
        """Drop all connections."""
        transports, self._transports = self._transports, []
        for transport in transports:
            transport.close()

    def known_line(self, name: str | None = None) -> str:
        """Return the line of known_hosts."""
        key = paramiko.PKey.from_path(str(self.host_key.path))
        return f"{name or name_of('127.0.0.1', self.port)} {key.get_name()} {key.get_base64()}\n"

    def run_here(self, channel: paramiko.Channel, command: str) -> None:
        """Run a command as sshd does: by a shell, with three pipes."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": self.path, "HOME": "/", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def feed() -> None:
            assert process.stdin is not None
            with suppress(OSError, EOFError):
                while data := channel.recv(32768):
                    process.stdin.write(data)
                    process.stdin.flush()
            with suppress(OSError):
                process.stdin.close()

        def carry(pipe: int, send: Callable[[bytes], object]) -> None:
            with suppress(OSError, EOFError):
                while data := os.read(pipe, 32768):
                    send(data)

        threads = [
            threading.Thread(target=carry, args=(process.stdout.fileno(), channel.sendall), daemon=True),
            threading.Thread(target=carry, args=(process.stderr.fileno(), channel.sendall_stderr), daemon=True),
        ]
        threading.Thread(target=feed, daemon=True).start()
        for thread in threads:
            thread.start()
        status = process.wait()
        for thread in threads:
            thread.join()
        process.stdout.close()
        process.stderr.close()
        with suppress(OSError, EOFError):
            channel.send_exit_status(status)
            channel.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            self.connections += 1
            transport = paramiko.Transport(sock)
            transport.set_log_channel("tests.sshserver")
            transport.add_server_key(paramiko.PKey.from_path(str(self.host_key.path)))
            self._transports.append(transport)
            with suppress(paramiko.SSHException, OSError, EOFError):
                transport.start_server(event=threading.Event(), server=_Session(self, transport))


class _Session(paramiko.ServerInterface):
    def __init__(self, server: SshServer, transport: paramiko.Transport) -> None:
        self._server = server
        self._transport = transport
        self._offers = 0

    def get_allowed_auths(self, username: str) -> str:
        return "keyboard-interactive" if self._offers and self._server.further else self._server.allowed

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._offers += 1
        self._server.offered.append(HostKey(key.get_name(), key.asbytes()).fingerprint)
        if self._offers > self._server.most_offers:
            self._transport.close()
        if "publickey" not in self._server.allowed or key.asbytes() not in self._server.authorized:
            return AUTH_FAILED
        return AUTH_PARTIALLY_SUCCESSFUL if self._server.further else AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.commands.append(command.decode())
        threading.Thread(target=self._server.run, args=(channel, command.decode()), daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]) -> int:
        self._server.forwarded.append(destination)
        if not self._server.forwarding:
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            sock = socket.create_connection(destination, 5)
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        threading.Thread(target=self._relay, args=(chanid, sock), daemon=True).start()
        return OPEN_SUCCEEDED

    def _relay(self, chanid: int, sock: socket.socket) -> None:
        channel = self._transport.accept(5)
        if channel is None:
            return

        def carry(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
            with suppress(OSError, EOFError):
                while data := read(32768):
                    write(data)
            with suppress(OSError, EOFError):
                channel.close()
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        sock.settimeout(None)
        there = threading.Thread(target=carry, args=(channel.recv, sock.sendall), daemon=True)
        there.start()
        carry(sock.recv, channel.sendall)
        there.join(5)
        sock.close()


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run a server whose commands find python3 and the usual tools on their PATH."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "python3").symlink_to(sys.executable)
    server = SshServer(make_key(folder / "host_key"), f"{programs}:/usr/bin:/bin")
    server.start()
    try:
        yield server
    finally:
        server.stop()
