"""Starting a program as root, by sudo where the user is somebody else, and telling why it did not start."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.access.client import TOO_OLD
from pytest_k8snet.errors import AccessError, AuthenticationError, NoAgentError

ROOT = "root"

# env is the same program whatever the login shell is, and makes sudo say its own words and not those of a translation.
_ENV = ("env", "LC_ALL=C")
_NOT_FOUND = 127  # env's exit status when the program is not there


def as_root(argv: Sequence[str], user: str) -> tuple[str, ...]:
    """Return the command that `user` runs `argv` as root with."""
    return (*_ENV, *argv) if user == ROOT else (*_ENV, "sudo", "-n", "--", *argv)


def why_ended(where: str, user: str, status: int, stderr: str) -> AccessError:
    """Return why a program that was to run as root ended: often it is env or sudo that did, and the program was never started."""
    said = f": {stderr[-500:]}" if stderr else ""
    if status == TOO_OLD:
        return NoAgentError(f"{where}: the node's python3 is older than 3.7")
    if status == _NOT_FOUND and "sudo" in stderr:
        return AuthenticationError(f"{where}: {user} is not root, and the node has no sudo: log in as root, or install sudo")
    if "python3" in stderr and (status == _NOT_FOUND or "command not found" in stderr):
        return NoAgentError(f"{where}: the node has no python3")
    if user != ROOT and "sudo" in stderr and "command not found" not in stderr:
        line = f"Defaults:{user} !requiretty" if "tty" in stderr else f"{user} ALL=(root) NOPASSWD: ALL"
        return AuthenticationError(
            f"{where}: sudo refused{said}. Reading the kernel's state takes root: put `{line}` into a file of /etc/sudoers.d on the node "
            "(with visudo), or log in as root"
        )
    return AccessError(f"{where}: the program ended with exit status {status}{said}")
