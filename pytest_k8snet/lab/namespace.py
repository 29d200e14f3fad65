"""The network and mount namespace of a lab, held by one process that only waits.

A user without root gets a user namespace as well, in which the user is root.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.processes import ProcessRef, reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

MEMORY_FOLDER = "/dev/shm"  # noqa: S108 - the lab's own tmpfs, in its mount namespace only
"""A tmpfs of the lab's own: memory of its nodes and the data of etcd. It goes with the namespace."""

PROGRAMS = {"ip": "iproute2", "tc": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "ssh": "openssh-client"}
_START_TIMEOUT_S = 10.0
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def require_host(tun: Path = Path("/dev/net/tun")) -> None:
    """Raise a LabError that names everything this machine lacks to run a lab, programs apart: `prepare` gets those."""
    missing = []
    if not os.access(tun, os.R_OK | os.W_OK):
        why = "cannot be opened by this user; as root: chmod 666 /dev/net/tun" if tun.exists() else "is not there; as root: modprobe tun"
        missing.append(f"{tun} {why}")
    if os.geteuid() != 0 and not missing:
        tried = _run(["unshare", "--user", "--map-root-user", "--net", "--mount", "true"])
        if tried.returncode != 0:
            missing.append(
                f"namespaces for a user without root ({tried.stderr.strip()}); as root: sysctl -w kernel.unprivileged_userns_clone=1 "
                "and, on Ubuntu, sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; or run the lab as root"
            )
    if missing:
        raise LabError("this machine cannot run a lab yet; it lacks:\n  " + "\n  ".join(missing))


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespaces of a lab; everything of the lab is started in them."""

    keeper: ProcessRef
    of_user: bool
    """Whether there is a user namespace too."""

    @property
    def inode(self) -> int:
        """Number of the network namespace, as long as its keeper runs."""
        return Path(f"/proc/{self.keeper.pid}/ns/net").stat().st_ino

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Give the command that runs `argv` in the namespaces; the process keeps its id."""
        user = ["--user", "--preserve-credentials"] if self.of_user else []
        return ["nsenter", "--target", str(self.keeper.pid), *user, "--net", "--mount", *argv]

    def run(self, argv: Sequence[str], *, stdin: str = "") -> str:
        """Run a command in the namespaces; give what it printed, raise a LabError when it fails."""
        done = _run(self.enter(argv), stdin=stdin)
        if done.returncode != 0:
            raise LabError(
                f"{' '.join(argv)} exited with {done.returncode} in the lab's namespace: {done.stderr.strip()}\n{stdin}".rstrip()
            )
        return done.stdout

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> ProcessRef:
        """Start a program that stays, in a session of its own; its output goes to `log`."""
        with log.open("ab") as out:
            return spawn(name, self.enter(argv), out=out, environment=environment, pass_fds=pass_fds)


def spawn(
    name: str, argv: Sequence[str], *, out: IO[bytes], environment: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> ProcessRef:
    """Start a program that outlives this one."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        env={**os.environ, "PATH": _path(), **(environment or {})},
        pass_fds=pass_fds,
        start_new_session=True,
    )
    found = reference(name, process.pid)
    if found is None:
        raise LabError(f"{name} ended at once; its output is in {getattr(out, 'name', 'its log')}")
    return found


def start_keeper(log: Path, environment: Mapping[str, str]) -> ProcessRef:
    """Start the process that holds the namespaces."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    with log.open("ab") as out:
        return spawn("namespace", ["unshare", *user, "--net", "--mount", "sleep", "infinity"], out=out, environment=environment)


def open_namespace(keeper: ProcessRef, log: Path) -> Namespace:
    """Wait until the keeper is in namespaces of its own, and furnish them."""
    own = Path("/proc/self/ns/net").stat().st_ino
    namespace = Namespace(keeper, of_user=os.geteuid() != 0)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _has_started(keeper, own):
        if not keeper.is_running or time.monotonic() > deadline:
            raise LabError(f"no namespaces for the lab: {log.read_text(errors='replace').strip()}")
        time.sleep(0.01)
    namespace.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=90%", "tmpfs", MEMORY_FOLDER])
    namespace.run(["ip", "link", "set", "lo", "up"])
    return namespace


def _has_started(keeper: ProcessRef, own: int) -> bool:
    """Tell whether the keeper has made its namespaces: they are whole when it has become `sleep`."""
    try:
        inside = Path(f"/proc/{keeper.pid}/ns/net").stat().st_ino != own
        return inside and Path(f"/proc/{keeper.pid}/comm").read_text() == "sleep\n"
    except OSError:
        return False


def _run(argv: Sequence[str], *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": _path(), "LC_ALL": "C"}
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, env=environment, check=False)


def _path() -> str:
    """Give PATH with the folders of system programs, which a user's often lacks."""
    return f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
