"""known_hosts files, read as OpenSSH reads them: hashed names, patterns, ports and markers. Nothing here adds to them.

paramiko's own reader knows neither patterns nor ``@revoked``: a key that was withdrawn would be taken for a good one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host key: its type as the protocol calls it (``ssh-ed25519``) and its bytes."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """The fingerprint as ``ssh-keygen -l`` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def kind(self) -> str:
        """The type as ``ssh-keyscan -t`` takes it."""
        return "ecdsa" if self.type.startswith("ecdsa-") else self.type.removeprefix("ssh-")

    def __str__(self) -> str:
        """Return type and fingerprint."""
        return f"{self.kind.upper()} {self.fingerprint}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a file."""

    names: str  # comma-separated patterns, or one hashed name
    key: HostKey
    marker: str | None
    where: str  # file:line

    def matches(self, name: str) -> bool:
        """Whether the line is about the host `name` (``host``, or ``[host]:port``)."""
        if self.names.startswith("|1|"):
            return _is_hash_of(self.names, name)
        found = False
        for pattern in self.names.lower().split(","):
            if fnmatchcase(name.lower(), _literal(pattern.removeprefix("!"))):
                if pattern.startswith("!"):
                    return False
                found = True
        return found


def name_of(host: str, port: int) -> str:
    """Return the name under which a host's key is known: with its port unless that is 22."""
    return host if port == SSH_PORT else f"[{host}]:{port}"


def read(files: Iterable[str]) -> list[Entry]:
    """Return the lines of all files that are there. What is no key line is passed over, as OpenSSH does."""
    entries = []
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            entry = _entry(line, f"{file}:{number}")
            if entry is not None:
                entries.append(entry)
    return entries


def known(entries: Sequence[Entry], name: str) -> list[Entry]:
    """Return the lines with keys of the host `name`; keys of a non-standard port are looked up without it when there is none with it."""
    found = [entry for entry in entries if entry.marker is None and entry.matches(name)]
    if not found and name.startswith("["):
        host = name[1:].partition("]")[0]
        found = [entry for entry in entries if entry.marker is None and entry.matches(host)]
    return found


def revoked(entries: Sequence[Entry], key: HostKey) -> Entry | None:
    """Return the line that withdraws a key, whatever host it names: a withdrawn key is nobody's."""
    return next((entry for entry in entries if entry.marker == "@revoked" and entry.key == key), None)


def _entry(line: str, where: str) -> Entry | None:
    words = line.split()
    marker = words.pop(0) if words and words[0].startswith("@") else None
    if len(words) < 3 or words[0].startswith("#"):
        return None
    names, kind, text = words[:3]
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Entry(names, HostKey(kind, blob), marker, where)


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in hashed[3:].split("|"))
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def _literal(pattern: str) -> str:
    """Return a pattern for `fnmatchcase`: OpenSSH knows ``*`` and ``?``, and brackets stand for themselves."""
    return pattern.replace("[", "[[]")
