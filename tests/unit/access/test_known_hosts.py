from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from pytest_k8snet.access.known_hosts import HostKey, known, name_of, read, revoked

A = HostKey("ssh-ed25519", b"key a")
B = HostKey("ssh-rsa", b"key b")


def line(names: str, key: HostKey = A) -> str:
    return f"{names} {key.type} {base64.b64encode(key.blob).decode()} comment\n"


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("names", "name", "found"),
    [
        ("node-1", "node-1", True),
        ("NODE-1", "node-1", True),
        ("node-1", "node-10", False),
        ("other,node-1,10.0.0.1", "10.0.0.1", True),
        ("*.example.com", "a.example.com", True),
        ("*.example.com,!a.example.com", "a.example.com", False),
        ("!a.example.com,*.example.com", "a.example.com", False),
        ("10.0.0.?", "10.0.0.7", True),
        ("[node-1]:2222", "[node-1]:2222", True),
        ("[node-1]:2222", "node-1", False),
        ("node-1", "[node-1]:2222", True),  # no line has the port: the host's own key will do
        ("n", "[node-1]:2222", False),
        (hashed("node-1"), "node-1", True),
        (hashed("node-1"), "node-2", False),
        (hashed("[node-1]:2222"), "[node-1]:2222", True),
        ("|1|damaged", "node-1", False),
        ("|1|a|b", "node-1", False),
    ],
)
def test_names(tmp_path: Path, names: str, name: str, found: bool) -> None:
    (tmp_path / "known_hosts").write_text(line(names))
    assert [entry.key for entry in known(read([str(tmp_path / "known_hosts")]), name)] == ([A] if found else [])


def test_a_key_for_the_port_outweighs_one_without(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(line("node-1", A) + line("[node-1]:2222", B))
    assert [entry.key for entry in known(read([str(tmp_path / "known_hosts")]), "[node-1]:2222")] == [B]


def test_what_is_no_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "one").write_text(f"# comment\n\nnode-1\nnode-1 ssh-rsa not-base64!\n@cert-authority {line('node-1')}{line('node-1')}")
    entries = read([str(tmp_path / "none"), str(tmp_path / "one")])
    assert [(entry.key, entry.where) for entry in known(entries, "node-1")] == [(A, f"{tmp_path / 'one'}:6")]


def test_withdrawn_keys(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(f"@revoked * {line('', A).strip()}\n{line('node-1', A)}{line('node-1', B)}")
    entries = read([str(tmp_path / "known_hosts")])
    found = revoked(entries, A)
    assert found is not None
    assert found.where.endswith("known_hosts:1")
    assert revoked(entries, B) is None


def test_words_for_keys() -> None:
    assert str(A) == f"ED25519 {A.fingerprint}"
    assert A.fingerprint == "SHA256:" + base64.b64encode(hashlib.sha256(b"key a").digest()).decode().rstrip("=")
    assert (HostKey("ecdsa-sha2-nistp256", b"").kind, B.kind) == ("ecdsa", "rsa")
    assert (name_of("h", 22), name_of("h", 23)) == ("h", "[h]:23")
