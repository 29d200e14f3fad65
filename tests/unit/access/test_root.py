from __future__ import annotations

import pytest

from pytest_k8snet.access.root import as_root, why_ended
from pytest_k8snet.errors import AccessError, AuthenticationError, NoAgentError


def test_who_is_not_root_uses_sudo_without_asking() -> None:
    assert as_root(("python3", "-c", "x"), "root") == ("env", "LC_ALL=C", "python3", "-c", "x")
    assert as_root(("python3", "-c", "x"), "admin") == ("env", "LC_ALL=C", "sudo", "-n", "--", "python3", "-c", "x")


@pytest.mark.parametrize(
    ("user", "status", "stderr", "error", "message"),
    [
        ("admin", 1, "admin is not in the sudoers file.", AuthenticationError, "put `admin ALL=(root) NOPASSWD: ALL` into"),
        (
            "admin",
            1,
            "sudo: sorry, you must have a tty to run sudo",
            AuthenticationError,
            "put `Defaults:admin !requiretty` into",
        ),
        ("admin", 1, "sudo: interactive authentication is required", AuthenticationError, "sudo refused: sudo: interactive"),
        ("admin", 127, "env: 'sudo': No such file or directory", AuthenticationError, "admin is not root, and the node has no sudo"),
        ("admin", 1, "sudo: python3: command not found", NoAgentError, "the node has no python3"),
        ("root", 127, "env: 'python3': No such file or directory", NoAgentError, "the node has no python3"),
        ("root", 127, "env: can't execute 'python3': No such file or directory", NoAgentError, "the node has no python3"),
        ("root", 4, "", NoAgentError, "the node's python3 is older than 3.7"),
        ("root", 127, "env: 'sh': No such file or directory", AccessError, "the program ended with exit status 127: env: 'sh': No such"),
        ("admin", 1, "sudo: sh: command not found", AccessError, "the program ended with exit status 1: sudo: sh: command not found"),
        ("root", 1, "MemoryError", AccessError, "the program ended with exit status 1: MemoryError"),
    ],
)
def test_why_a_program_ended(user: str, status: int, stderr: str, error: type[AccessError], message: str) -> None:
    ended = why_ended("here", user, status, stderr)
    assert type(ended) is error
    assert f"here: {message}" in str(ended) or message in str(ended)
