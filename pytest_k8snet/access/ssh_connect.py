"""One ssh connection: way, host key, login. Each of them fails with a message that says what to do, and none of them holds a secret."""

from __future__ import annotations

import base64
import logging
import os
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import UnknownKeyType

from pytest_k8snet.access import known_hosts
from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.known_hosts import SSH_PORT, HostKey
from pytest_k8snet.access.ssh_config import SshTarget
from pytest_k8snet.errors import AccessError, AuthenticationError, ConnectError

PASSPHRASE_VARIABLE = "K8SNET_SSH_PASSPHRASE"  # noqa: S105 - the name of one
KEEPALIVE_S = 10
LOST_S = 45.0  # a node that was paused for half a minute is still there

_LOG = "pytest_k8snet.ssh"
_AGENT_S = 10.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A key to log in with, or why a key that was named cannot be offered."""

    label: str
    key: paramiko.PKey | None
    problem: str | None = None


class Keys:
    """The private keys in files, read once; those with a passphrase by the one in the environment."""

    def __init__(self, passphrase: str | None = None) -> None:
        self._passphrase = passphrase
        self._loaded: dict[str, Offer] = {}
        self._lock = threading.Lock()

    def offer(self, file: str) -> Offer:
        """Return the key in `file`."""
        with self._lock:  # decrypting takes long on purpose: not once a node
            if file not in self._loaded:
                self._loaded[file] = self._load(file)
            return self._loaded[file]

    def _load(self, file: str) -> Offer:
        password = None if self._passphrase is None else self._passphrase.encode()
        try:
            try:
                key = paramiko.PKey.from_path(file)
            except TypeError:  # cryptography's word for a key that is encrypted
                if password is None:
                    return Offer(file, None, f"needs a passphrase: give it in {PASSPHRASE_VARIABLE}, or load the key into an ssh-agent")
                try:
                    # cryptography takes bytes, whatever paramiko's annotation says.
                    key = paramiko.PKey.from_path(file, password)  # type: ignore[arg-type]
                except ValueError:
                    return Offer(file, None, f"the passphrase in {PASSPHRASE_VARIABLE} does not fit")
        except OSError as error:
            return Offer(file, None, error.strerror or type(error).__name__)
        except (paramiko.SSHException, UnknownKeyType, ValueError):
            return Offer(file, None, "is no private key that paramiko can read")
        return Offer(f"{file} ({HostKey(key.get_name(), key.asbytes())})", key)


class _Agent(AgentSSH):
    """An ssh-agent at a socket that the configuration names; paramiko's own looks only into the environment."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_AGENT_S)
            connection.connect(path)
            speak: Any = getattr(self, "_connect")  # noqa: B009 - unknown to the stubs
            speak(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """End the connection to it."""
        hang_up: Any = getattr(self, "_close")  # noqa: B009
        hang_up()


class Jumps:
    """Connections to jump hosts, one for all nodes behind each."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._open: dict[SshTarget, paramiko.Transport] = {}
        self._failed: dict[SshTarget, tuple[float, AccessError]] = {}
        self._locks: dict[SshTarget, threading.Lock] = {}
        self._lock = threading.Lock()

    def transport(self, via: SshTarget) -> paramiko.Transport:
        """Return the connection to a jump host; who waited while it could not be made gets the same error."""
        since = time.monotonic()
        with self._lock:
            lock = self._locks.setdefault(via, threading.Lock())
        with lock:
            at, failure = self._failed.get(via, (0.0, None))
            if failure is not None and at >= since:
                raise type(failure)(str(failure)) from failure
            transport = self._open.get(via)
            if transport is None or not transport.is_active():
                try:
                    transport = self._open[via] = connect(via, self._keys, self)
                except AccessError as error:
                    self._failed[via] = (time.monotonic(), error)
                    raise
            return transport

    def close(self) -> None:
        """End them all, those that others go through last."""
        with self._lock:
            transports, self._open = [*self._open.values()], {}
        for transport in reversed(transports):
            end(transport)


def connect(target: SshTarget, keys: Keys, jumps: Jumps) -> paramiko.Transport:
    """Return a connection that is logged in.

    Raises `ConnectError` when there is no sshd at the end of the way, `AuthenticationError` when it is not the one that is known, or when
    it does not let us in.
    """
    jump = None if target.via is None else jumps.transport(target.via)
    deadline = Deadline.after(target.connect_timeout_s)
    with _way(target, jump, deadline) as (sock, why):
        transport = paramiko.Transport(sock)
        transport.set_log_channel(_log_channel())
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = max(deadline.remaining, 0.1)
        with watched(transport, deadline) as late:
            try:
                entries = known_hosts.read(target.known_hosts)
                _prefer_known(transport, known_hosts.known(entries, target.known_as))
                _negotiate(transport, target, deadline, late, why)
                _verify(transport.get_remote_server_key(), entries, target)
                _log_in(transport, target, keys, late)
            except BaseException:
                end(transport)
                raise
        transport.set_keepalive(KEEPALIVE_S)
        return transport


@contextmanager
def watched(transport: paramiko.Transport, deadline: Deadline) -> Iterator[Callable[[], bool]]:
    """Close `transport` at the deadline: some of paramiko's waits have none. Gives a function that says whether that was done."""
    fired = threading.Event()

    def cut() -> None:
        fired.set()
        end(transport)

    timer = threading.Timer(max(deadline.remaining, 0.1), cut)
    timer.daemon = True
    timer.start()
    try:
        yield fired.is_set
    finally:
        timer.cancel()


def end(transport: paramiko.Transport) -> None:
    """End a connection; the one that it goes through may have ended before."""
    with suppress(paramiko.SSHException, EOFError, OSError):
        transport.close()


# ---- the way


@contextmanager
def _way(
    target: SshTarget, jump: paramiko.Transport | None, deadline: Deadline
) -> Iterator[tuple[socket.socket | paramiko.Channel, Callable[[], str]]]:
    """Give a socket to the target's sshd, and a function that says why nothing comes from it."""
    if jump is not None:
        channel = _forwarded(target, jump, deadline)
        with _closed_on_error(channel):
            yield channel, lambda: "the jump host closed the connection"
    elif target.proxy_command is not None:
        with tempfile.TemporaryFile() as words:
            ours, process = _start_proxy(target.proxy_command, words.fileno())
            with _closed_on_error(ours):
                yield ours, lambda: _last_words(process, words.fileno())
    else:
        sock = _tcp(target.host, target.port, deadline)
        with _closed_on_error(sock):
            yield sock, lambda: "the connection was closed"


def _forwarded(target: SshTarget, jump: paramiko.Transport, deadline: Deadline) -> paramiko.Channel:
    try:
        return jump.open_channel("direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=max(deadline.remaining, 0.1))
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise ConnectError(f"the jump host {target.via} opens no connection to {target.host} port {target.port}: {_text(error)}") from error


@contextmanager
def _closed_on_error(sock: socket.socket | paramiko.Channel) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _tcp(host: str, port: int, deadline: Deadline) -> socket.socket:
    told = f"{host} port {port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise ConnectError(
            f"{host} is no name that resolves here ({getattr(error, 'strerror', None) or error}): give the address by HostName in the ssh "
            "configuration, by --k8snet-ssh-map, or choose another kind with --k8snet-ssh-address"
        ) from error
    problem = "no address"
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(deadline.remaining, 0.1))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                # A node that lost its power answers nothing: what is not acknowledged in this time, keepalives too, ends the connection.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(LOST_S * 1000))
        except TimeoutError:
            sock.close()
            problem = f"no connection within {deadline.seconds:g} s: is the node up, and the port open for this machine?"
        except OSError as error:
            sock.close()
            problem = f"{error.strerror or error}"
        else:
            return sock
    raise ConnectError(f"{told}: {problem}")


def _start_proxy(command: str, stderr: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a ProxyCommand with one end of a socket as its stdin and stdout. paramiko's own gives it a stderr that nobody reads."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=stderr, start_new_session=True
        )
    threading.Thread(target=process.wait, name="k8snet-ssh-proxy", daemon=True).start()  # it ends when its socket is closed
    return ours, process


def _last_words(process: subprocess.Popen[bytes], stderr: int) -> str:
    """Say how a ProxyCommand ended. The command itself is not told: people write passwords into it."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(2.0)
    size = os.fstat(stderr).st_size
    said = os.pread(stderr, 500, max(0, size - 500)).decode("utf-8", "replace").strip()
    ended = "runs, and says nothing of ssh" if process.returncode is None else f"ended with exit status {process.returncode}"
    return f"its ProxyCommand {ended}" + (f": {said}" if said else "")


# ---- the host key


def _prefer_known(transport: paramiko.Transport, entries: Sequence[known_hosts.Entry]) -> None:
    """Ask for a key of a type that is known, as ssh does: of several keys a server shows one."""
    types = {entry.key.type for entry in entries}
    options = transport.get_security_options()
    first = [name for name in options.key_types if name in types or ("ssh-rsa" in types and name.startswith("rsa-"))]
    options.key_types = (*first, *(name for name in options.key_types if name not in first))


def _negotiate(
    transport: paramiko.Transport, target: SshTarget, deadline: Deadline, late: Callable[[], bool], why: Callable[[], str]
) -> None:
    try:
        transport.start_client(timeout=max(deadline.remaining, 0.1))
        if not transport.initial_kex_done:
            raise TimeoutError
    except (paramiko.SSHException, EOFError, OSError) as error:
        if late() or isinstance(error, TimeoutError):
            raise ConnectError(
                f"{_place(target)}: it accepts connections and is silent for {deadline.seconds:g} s; is it an sshd?"
            ) from error
        if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
            raise ConnectError(f"{_place(target)}: {error}") from error
        raise ConnectError(f"{_place(target)}: no ssh: {why()} ({_text(error)})") from error


def _verify(key: paramiko.PKey, entries: Sequence[known_hosts.Entry], target: SshTarget) -> None:
    """Refuse a host key that is not known to be the host's. No option turns this off."""
    shown = HostKey(key.get_name(), key.asbytes())
    name = target.known_as
    withdrawn = known_hosts.revoked(entries, shown)
    if withdrawn is not None:
        raise AuthenticationError(f"{_place(target)}: its host key {shown} is REVOKED in {withdrawn.where}. Nothing was sent to it.")
    kept = known_hosts.known(entries, name)
    if any(entry.key == shown for entry in kept):
        return
    same_type = [entry for entry in kept if entry.key.type == shown.type]
    file = target.known_hosts[0] if target.known_hosts else "~/.ssh/known_hosts"
    accept = _accepting(shown, target, file)
    if same_type:
        told = ", ".join(f"{entry.key} ({entry.where})" for entry in same_type)
        old = Path(same_type[0].where.rpartition(":")[0])
        raise AuthenticationError(
            f"{_place(target)}: THE HOST KEY OF {name} HAS CHANGED. It shows {shown}, known is {told}. Either the node was installed anew, "
            "or somebody answers in its place: find out which. Nothing was sent to it. If it was installed anew, and its console shows "
            f"this fingerprint: ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(str(old))}, then {accept}"
        )
    others = f" (known are keys of other types: {', '.join(str(entry.key) for entry in kept)})" if kept else ""
    raise AuthenticationError(
        f"{_place(target)}: the host key of {name} is not known{others}: {shown}. Compare the fingerprint with what the node itself says "
        f"(ssh-keygen -lf /etc/ssh/ssh_host_{shown.kind}_key.pub on its console). If it is the same, accept it: {accept}"
    )


def _accepting(key: HostKey, target: SshTarget, file: str) -> str:
    """Return the command that makes a key known."""
    if target.via is not None or target.proxy_command is not None:  # ssh-keyscan does not get there
        line = f"{target.known_as} {key.type} {base64.b64encode(key.blob).decode()}"
        return f"echo {shlex.quote(line)} >> {shlex.quote(file)}"
    scan = f"ssh-keyscan -t {key.kind} -p {target.port} {shlex.quote(target.host)}"
    if target.known_as != known_hosts.name_of(target.host, target.port):
        scan += f" | sed {shlex.quote(f's/^[^ ]*/{target.known_as}/')}"
    return f"{scan} >> {shlex.quote(file)}"


# ---- login


def _log_in(transport: paramiko.Transport, target: SshTarget, keys: Keys, late: Callable[[], bool]) -> None:
    tried: list[str] = []
    locked: list[str] = []
    with _offers(target, keys) as (offers, trouble):
        for offer in offers:
            if offer.key is None:
                (locked if PASSPHRASE_VARIABLE in (offer.problem or "") else tried).append(f"{offer.label}: {offer.problem}")
                continue
            problem = _try(transport, target, offer.key, late)
            if problem is None:
                return
            tried.append(f"{offer.label}: {problem}")
            if not transport.is_active():
                raise AuthenticationError(
                    f"{target}: the server hung up after {len(tried)} keys ({'; '.join(tried)}): it counts each as an attempt. "
                    "Name the right one with --k8snet-ssh-key, or with IdentityFile and IdentitiesOnly in the ssh configuration"
                )
    told = "; ".join([*locked, *tried, *trouble])
    if not told:
        told = "there is none, and no ssh-agent: name one with --k8snet-ssh-key"
    raise AuthenticationError(
        f"{target}: no key was accepted: {told}. Is its public half in ~{target.user}/.ssh/authorized_keys of the node?"
    )


def _try(transport: paramiko.Transport, target: SshTarget, key: paramiko.PKey, late: Callable[[], bool]) -> str | None:
    """Offer one key; return why it was not taken, None when we are in."""
    try:
        further = transport.auth_publickey(target.user, key)
    except paramiko.BadAuthenticationType as error:
        raise AuthenticationError(
            f"{target}: the server takes no keys, only {', '.join(error.allowed_types)}; passwords are not supported, on purpose"
        ) from error
    except paramiko.AuthenticationException as error:
        if late():
            raise ConnectError(f"{target}: no answer to the login within {target.connect_timeout_s:g} s") from error
        return "not accepted"
    except (paramiko.SSHException, EOFError, OSError) as error:
        if late():
            raise ConnectError(f"{target}: no answer to the login within {target.connect_timeout_s:g} s") from error
        return _text(error)
    if further:
        raise AuthenticationError(
            f"{target}: the key was accepted, and the server wants {', '.join(further)} as well: nobody is there to give it"
        )
    return None


@contextmanager
def _offers(target: SshTarget, keys: Keys) -> Iterator[tuple[Iterator[Offer], list[str]]]:
    """Give the keys to offer, in ssh's order: named files, by the agent where it holds them; the agent's own; files of the usual names."""
    trouble: list[str] = []
    agent: _Agent | None = None
    if target.agent is not None:
        try:
            agent = _Agent(target.agent)
        except (OSError, paramiko.SSHException) as error:
            trouble.append(f"ssh-agent {target.agent}: {_text(error)}")
    held = {} if agent is None else {key.asbytes(): key for key in agent.get_keys()}

    def give() -> Iterator[Offer]:
        rest = dict(held)
        files = [_from_file(file, keys, rest) for file in target.keys if target.named_keys or Path(file).is_file()]
        others = (
            []
            if target.identities_only
            else [Offer(f"key {HostKey(key.get_name(), blob)} of the agent", key) for blob, key in rest.items()]
        )
        yield from (*files, *others) if target.named_keys else (*others, *files)

    try:
        yield give(), trouble
    finally:
        if agent is not None:
            agent.close()


def _from_file(file: str, keys: Keys, held: dict[bytes, AgentKey]) -> Offer:
    """Return the key of a file; what the agent holds is taken out of `held` and used through it: it needs no passphrase."""
    for public in (f"{file}.pub", file):
        with suppress(OSError, ValueError, IndexError):
            blob = base64.b64decode(Path(public).read_text(encoding="ascii").split()[1], validate=True)
            if blob in held:
                key = held.pop(blob)
                return Offer(f"{file} ({HostKey(key.get_name(), blob)}, by the agent)", key)
    offer = keys.offer(file)
    if offer.key is not None:
        held.pop(offer.key.asbytes(), None)
    return offer


def _place(target: SshTarget) -> str:
    port = "" if target.port == SSH_PORT else f" port {target.port}"
    return f"{target.host}{port}" + (f" through {target.via}" if target.via else "")


def _log_channel() -> str:
    """Return paramiko's log channel; without a handler of its own Python would print its warnings on stderr."""
    logger = logging.getLogger(_LOG)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return _LOG


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
