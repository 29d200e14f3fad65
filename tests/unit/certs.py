"""Certificates for tests: an authority, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority; its files lie in `folder`."""

    def __init__(self, folder: Path, name: str = "lab") -> None:
        self.folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._write(f"{name}-ca.crt", self._sign(self._name, self._key, days=(-10, 3650), ca=True))

    def issue(
        self, name: str, *, hosts: tuple[str, ...] = (), days: tuple[int, int] = (-10, 3650), passphrase: bytes | None = None
    ) -> tuple[Path, Path]:
        """Write certificate and key for a client or, with names or addresses, a server; `days` from now it begins and ends."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
        key_file = self.folder / f"{name}.key"
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return self._write(f"{name}.crt", self._sign(subject, key, days=days, hosts=hosts)), key_file

    def server(self, *hosts: str, days: tuple[int, int] = (-10, 3650), clients: Authority | None = None) -> ssl.SSLContext:
        """Return what a server of these names or addresses needs; with `clients` it wants a certificate of that authority."""
        certificate, key = self.issue("server", hosts=hosts, days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.certificate)
        return context

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: tuple[int, int], hosts: tuple[str, ...] = (), ca: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        file = self.folder / name
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
        return file


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
