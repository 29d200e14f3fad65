"""When a certificate ends: the one field that makes a refused connection understandable, and that `ssl` gives of no client certificate."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

_VERSION, _UTC_TIME = 0xA0, 0x17  # DER tags


def not_after(file: str | None) -> datetime | None:
    """Return the end of the first certificate in a PEM file; None when there is none that can be read."""
    if file is None:
        return None
    try:
        found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", Path(file).read_text(encoding="ascii"), re.DOTALL)
        return _not_after(ssl.PEM_cert_to_DER_cert(found[0])) if found else None
    except (OSError, ValueError, IndexError):
        return None


def _not_after(der: bytes) -> datetime:
    certificate = _inside(der, 0)[1]
    position = _inside(der, certificate)[1]  # of tbsCertificate
    if der[position] == _VERSION:
        position = _inside(der, position)[2]
    for _ in ("serialNumber", "signature", "issuer"):
        position = _inside(der, position)[2]
    not_before = _inside(der, position)[1]  # of validity
    tag, start, end = _inside(der, _inside(der, not_before)[2])
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text  # RFC 5280
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _inside(der: bytes, position: int) -> tuple[int, int, int]:
    """Return the tag of the value at `position`, where its content begins and where it ends."""
    tag, length, start = der[position], der[position + 1], position + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[start : start + count], "big")
        start += count
    return tag, start, start + length
