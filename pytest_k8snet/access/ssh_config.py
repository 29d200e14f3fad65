"""Where a node's sshd is and how to get in: our own settings first, then OpenSSH's configuration, then its defaults.

Options are taken from ~/.ssh/config as `ssh` takes them, but for one: whatever StrictHostKeyChecking says, an unknown host key is refused.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko

from pytest_k8snet.access.known_hosts import SSH_PORT, name_of
from pytest_k8snet.errors import AccessError, ConfigurationError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.model import Node
    from pytest_k8snet.options import Settings

CONNECT_TIMEOUT_S = 10.0
NONE = "none"

_USER_CONFIG = "~/.ssh/config"
_SYSTEM_CONFIG = "/etc/ssh/ssh_config"
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_KEYS = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")  # in the order that ssh tries them in
_MOST_JUMPS = 8  # more are a circle
_MOST_INCLUDES = 16  # as ssh: deeper is a loop
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
_JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<host>[\w.%-]+))(?::(?P<port>\d{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class SshTarget:
    """One sshd, and all that is needed to log in to it."""

    host: str
    port: int
    user: str
    known_as: str  # under this name its host key is looked up
    known_hosts: tuple[str, ...]  # files; the first is where new keys go
    keys: tuple[str, ...]  # private key files, in the order they are tried in
    named_keys: bool  # whether somebody named those files: then they are tried before the agent's keys
    identities_only: bool  # whether keys are offered that nobody named
    agent: str | None  # socket of the ssh-agent
    connect_timeout_s: float
    via: SshTarget | None = None  # jump host
    proxy_command: str | None = None

    def __str__(self) -> str:
        """Return the target for messages: ``root@10.0.0.1``, ``root@10.0.0.1 port 2222 through admin@bastion``."""
        port = "" if self.port == SSH_PORT else f" port {self.port}"
        return f"{self.user}@{self.host}{port}" + (f" through {self.via}" if self.via else "")


@dataclass(frozen=True, slots=True)
class Mapped:
    """What ``--k8snet-ssh-map`` says of a node."""

    host: str
    port: int | None


class _Config(paramiko.SSHConfig):
    """paramiko's, but for the values in which the port and user have to be those that our own settings may have changed."""

    TOKENS_BY_CONFIG_KEY = {  # noqa: RUF012 - as paramiko has it
        key: tokens for key, tokens in paramiko.SSHConfig.TOKENS_BY_CONFIG_KEY.items() if not key.startswith("proxy")
    }


class SshConfig:
    """The settings of a run, with the configuration files that they name.

    Raises `ConfigurationError` when a file is not there or not readable as what it is.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._environment = environment
        self._user = _local_user()
        self._targets: dict[str, SshTarget] = {}
        self._map = read_map(settings.ssh_map) if settings.ssh_map is not None else {}
        if settings.ssh_key is not None and not Path(settings.ssh_key).is_file():
            raise ConfigurationError(f"--k8snet-ssh-key: there is no file {settings.ssh_key}")
        if settings.ssh_known_hosts is not None and not Path(settings.ssh_known_hosts).exists():
            raise ConfigurationError(f"--k8snet-ssh-known-hosts: there is no file {settings.ssh_known_hosts}")
        if settings.ssh_config not in (None, NONE) and not Path(settings.ssh_config).is_file():
            raise ConfigurationError(f"--k8snet-ssh-config: there is no file {settings.ssh_config}")
        files = (
            [_USER_CONFIG, _SYSTEM_CONFIG] if settings.ssh_config is None else [] if settings.ssh_config == NONE else [settings.ssh_config]
        )
        lines: list[str] = []
        for file in files:
            # What stands before the first Host of the second file is not of the last Host of the first.
            lines += [*_included(Path(file).expanduser()), "Host *"]
        self._names = [_patterns(line) for line in lines]
        try:
            self._config = _Config.from_text("\n".join(lines))
        except (paramiko.ssh_exception.ConfigParseError, ValueError) as error:
            raise ConfigurationError(f"{', '.join(files)}: {error}") from error

    def target(self, node: Node) -> SshTarget:
        """Return how to reach a node.

        Raises `AccessError` when the node has no address of the wanted kind, `ConfigurationError` when the configuration is not usable.
        """
        if node.name not in self._targets:
            self._targets[node.name] = self._find(node)
        return self._targets[node.name]

    def _find(self, node: Node) -> SshTarget:
        settings = self._settings
        mapped = self._map.get(node.name)
        if mapped is not None:
            name = mapped.host
        else:
            name = node.name if self._has_entry_for(node.name) else self._address(node)
            _see_that_it_is_a_host(name)  # before the configuration is asked: it may have commands with %n in them
        port = mapped.port if mapped is not None and mapped.port is not None else settings.ssh_port
        return self._resolve(name, user=settings.ssh_user, port=port, jump=settings.ssh_jump, seen=())

    def _resolve(
        self, name: str, *, user: str | None, port: int | None, jump: str | None, seen: tuple[str, ...], via: SshTarget | None = None
    ) -> SshTarget:
        if len(seen) > _MOST_JUMPS:
            raise ConfigurationError(f"ssh: the jump hosts go round in a circle: {' -> '.join([*seen, name])}")
        settings, found = self._settings, self._lookup(name)
        host = found["hostname"]
        _see_that_it_is_a_host(host)
        port = port or _number(found.get("port"), f"Port of {name}") or SSH_PORT
        user = user or found.get("user") or settings.ssh_user or self._user
        tokens = {"h": host, "n": name, "p": str(port), "r": user, "d": str(Path.home()), "%": "%"}
        proxy = found.get("proxycommand") if jump is None and via is None else None
        jump = None if via is not None else jump if jump is not None else found.get("proxyjump")
        # "Host *" with a ProxyJump is about the jump host as well: nobody jumps to where he is.
        if jump is not None and jump.lower() != NONE and jump not in (name, host):
            via = self._through(_expanded(jump, tokens), seen=(*seen, name))
        named = (settings.ssh_key,) if settings.ssh_key is not None else tuple(found.get("identityfile", ()))
        known = (settings.ssh_known_hosts,) if settings.ssh_known_hosts is not None else self._known_hosts(found, tokens)
        alias = found.get("hostkeyalias")
        return SshTarget(
            host=host,
            port=port,
            user=user,
            known_as=_expanded(alias, tokens) if alias else name_of(host, port),
            known_hosts=known,
            keys=tuple(str(Path(file).expanduser()) for file in named or _KEYS if file.lower() != NONE),
            named_keys=bool(named),
            identities_only=found.get("identitiesonly", "no").lower() == "yes",
            agent=self._agent(found.get("identityagent"), tokens),
            connect_timeout_s=settings.ssh_connect_timeout or _seconds(found.get("connecttimeout"), f"ConnectTimeout of {name}"),
            via=via,
            proxy_command=None if proxy is None or via is not None else _expanded(proxy, tokens),
        )

    def _through(self, jump: str, seen: tuple[str, ...]) -> SshTarget:
        """Return the last of several jump hosts; each is reached through the one before it, the first as its own configuration says."""
        via: SshTarget | None = None
        for hop in jump.split(","):
            match = _JUMP.fullmatch(hop.strip())
            if match is None:
                raise ConfigurationError(f"ssh: {hop.strip()!r} is no jump host; want [USER@]HOST[:PORT]")
            port = int(match["port"]) if match["port"] else None
            via = self._resolve(match["bracketed"] or match["host"], user=match["user"], port=port, jump=None, seen=seen, via=via)
        assert via is not None
        return via

    def _lookup(self, name: str) -> paramiko.SSHConfigDict:
        try:
            return self._config.lookup(name)
        except (
            paramiko.ssh_exception.CouldNotCanonicalize,
            paramiko.ssh_exception.ConfigParseError,
            KeyError,
            OSError,
            ValueError,
        ) as error:
            raise ConfigurationError(f"ssh configuration for {name}: {error}") from error

    def _has_entry_for(self, name: str) -> bool:
        """Whether a ``Host`` or ``Match`` names `name` by more than ``*``."""
        for patterns in self._names:
            wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
            unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
            if any(fnmatchcase(name, pattern) for pattern in wanted if pattern.strip("*")) and not any(
                fnmatchcase(name, pattern) for pattern in unwanted
            ):
                return True
        return False

    def _address(self, node: Node) -> str:
        kind = self._settings.ssh_address
        address = {"internal": node.internal_ip, "external": node.external_ip, "hostname": node.hostname}[kind]
        if address is None:
            told = {"internal": "InternalIP", "external": "ExternalIP", "hostname": "Hostname"}[kind]
            raise AccessError(
                f"{node.name}: the node has no {told}; choose another with --k8snet-ssh-address, or name it in --k8snet-ssh-map"
            )
        return address

    def _known_hosts(self, found: Mapping[str, str], tokens: Mapping[str, str]) -> tuple[str, ...]:
        files: list[str] = []
        for key, otherwise in (("userknownhostsfile", _KNOWN_HOSTS), ("globalknownhostsfile", _GLOBAL_KNOWN_HOSTS)):
            given = found.get(key)
            names = otherwise if given is None else () if given.lower() == NONE else _files(given)
            files += [str(Path(_expanded(name, tokens)).expanduser()) for name in names]
        return tuple(files)

    def _agent(self, given: str | None, tokens: Mapping[str, str]) -> str | None:
        if given is None or given == "SSH_AUTH_SOCK":
            return self._environment.get("SSH_AUTH_SOCK") or None
        if given.lower() == NONE:
            return None
        if given.startswith("$"):
            return self._environment.get(given[1:].strip("{}")) or None
        return str(Path(_expanded(given, tokens)).expanduser())


def _see_that_it_is_a_host(name: str) -> None:
    """Raise `AccessError` for what comes from the API server, and is to be put into a command of the configuration, when it is no name."""
    if not re.fullmatch(r"[\w.:%][\w.:%-]*", name, re.ASCII):
        raise AccessError(f"{name!r} is no host name and no address")


def read_map(given: str) -> dict[str, Mapped]:
    """Read ``node=host[:port],...``, or a file with one such entry a line.

    Raises `ConfigurationError` that names the entry.
    """
    where = "--k8snet-ssh-map"
    if "=" in given:
        entries = [(where, part) for part in given.split(",")]
    else:
        try:
            lines = Path(given).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigurationError(f"{where}: {given}: {error.strerror}; want a file, or node=host[:port],...") from error
        entries = [(f"{given}:{number}", line.partition("#")[0]) for number, line in enumerate(lines, 1)]
    found = {}
    for place, text in entries:
        if not text.strip():
            continue
        node, _, rest = (part.strip() for part in text.partition("="))
        match = re.fullmatch(r"\[(?P<bracketed>[^\]\s]+)\](?::(?P<port>\d{1,5}))?", rest) or re.fullmatch(
            r"(?P<bracketed>[^\s:]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)(?::(?P<port>\d{1,5}))?", rest
        )
        if not node or match is None:
            raise ConfigurationError(f"{place}: got {text.strip()!r}, want node=host[:port] (an IPv6 address with a port: [address]:port)")
        if node in found:
            raise ConfigurationError(f"{place}: {node} is named twice")
        found[node] = Mapped(match["bracketed"], int(match["port"]) if match["port"] else None)
    return found


def _included(file: Path, depth: int = 0) -> Iterator[str]:
    """Give the lines of a configuration file with those of the files that it includes in their place: paramiko does not know Include.

    What a file includes below a ``Host`` line is for that host until it names another.
    """
    if depth > _MOST_INCLUDES:
        raise ConfigurationError(f"{file}: Include goes round in a circle")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"ssh configuration {file}: {getattr(error, 'strerror', None) or error}") from error
    block = "Host *"
    for line in lines:
        match = re.match(r"\s*(\w+)(?:\s*=\s*|\s+)(.+)", line)
        key = match[1].lower() if match else ""
        if match is None or key != "include":
            if key in ("host", "match"):
                block = line
            yield line
            continue
        base = Path("/etc/ssh") if file.is_relative_to("/etc/ssh") else Path("~/.ssh").expanduser()
        for pattern in _files(match[2].strip()):
            for name in sorted(glob.glob(str(base / Path(pattern).expanduser()))):  # noqa: PTH207 - an absolute pattern
                yield from _included(Path(name), depth + 1)
        yield block


def _patterns(line: str) -> list[str]:
    """Return the patterns of names in a ``Host`` line, or in the host criteria of a ``Match`` line."""
    match = re.match(r"\s*(host|match)(?:\s*=\s*|\s+)(.+)", line, re.IGNORECASE)
    if match is None:
        return []
    words = _words(match[2])
    if match[1].lower() == "host":
        return words
    named = [after for word, after in pairwise(words) if word.lower() in ("host", "originalhost")]
    return [pattern for after in named for pattern in after.split(",")]


def _files(value: str) -> list[str]:
    """Return the file names in a value; paramiko has taken the quotes off one that was quoted as a whole."""
    return [value] if '"' not in value and " " in value and Path(value).expanduser().exists() else _words(value)


def _words(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:  # paramiko says it better
        return value.split()


def _expanded(value: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), value)


def _number(value: str | None, what: str) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise ConfigurationError(f"ssh configuration: {what}: got {value!r}, want a port")
    return int(value)


def _seconds(value: str | None, what: str) -> float:
    if value is None or value.lower() == NONE:
        return CONNECT_TIMEOUT_S
    parts: Sequence[tuple[str, str]] = re.findall(r"(\d+)([smhSMH]?)", value)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != value:
        raise ConfigurationError(f"ssh configuration: {what}: got {value!r}, want seconds")
    return float(sum(int(number) * _UNITS_S[unit.lower()] for number, unit in parts)) or CONNECT_TIMEOUT_S


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise ConfigurationError(
            f"ssh: the user that pytest runs as has no name ({error}); set the environment variable LOGNAME"
        ) from error
