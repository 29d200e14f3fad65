"""Certificates that TLS believes, and a control plane whose files are there."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pytest_k8snet.lab.addresses import AddressPlan
from pytest_k8snet.lab.control_plane import Identities, components, write_identities
from pytest_k8snet.lab.pki import Authority, Pair, ssh_pair, write_file
from pytest_k8snet.lab.settings import IpFamily, LabSettings

PLAN = AddressPlan.of(LabSettings())


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Identities]:
    folder = tmp_path_factory.mktemp("lab") / "pki"
    return folder, write_identities(folder, PLAN, "mine")


def context(protocol: int, authority: Path, pair: Pair, folder: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.load_verify_locations(authority)
    made.verify_mode = ssl.CERT_REQUIRED
    # What Python 3.13 asks of certificates by default.
    made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    pair.write(folder, "own")
    made.load_cert_chain(folder / "own.crt", folder / "own.key")
    return made


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Let both sides talk in memory until they trust each other; return the server's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server, server_hostname=name)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0]


@pytest.mark.parametrize(
    "name", ["127.0.0.1", PLAN.api_address, PLAN.proxy_api_address, PLAN.api_service_address, "kubernetes.default.svc"]
)
def test_the_api_server_is_believed_by_every_name_it_has(pki: tuple[Path, Identities], tmp_path: Path, name: str) -> None:
    folder, identities = pki
    server_pair = Pair((folder / "apiserver.crt").read_bytes(), (folder / "apiserver.key").read_bytes())
    server = context(ssl.PROTOCOL_TLS_SERVER, folder / "ca.crt", server_pair, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, folder / "ca.crt", identities.admin, tmp_path)
    seen = shake_hands(server, client, name).getpeercert()
    assert seen is not None
    subject = dict(item for part in seen["subject"] for item in part)  # type: ignore[misc]
    assert subject == {"organizationName": "system:masters", "commonName": "kubernetes-admin"}


def test_another_labs_authority_is_not_believed(pki: tuple[Path, Identities], tmp_path: Path) -> None:
    folder, identities = pki
    other = Authority("k8snet lab other").issue("kube-apiserver", addresses=("127.0.0.1",))
    server = context(ssl.PROTOCOL_TLS_SERVER, folder / "ca.crt", other, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, folder / "ca.crt", identities.admin, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client, "127.0.0.1")


def test_a_client_is_no_server() -> None:
    certificate = x509.load_pem_x509_certificate(Authority("a").issue("kubelet", groups=("one", "two")).certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert [item.value for item in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["one", "two"]


def test_keys_are_for_their_owner_alone(pki: tuple[Path, Identities]) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in pki[0].iterdir()}
    assert set(modes) == {
        *(f"{name}.{end}" for name in ("ca", "apiserver", "apiserver-kubelet-client", "service-accounts") for end in ("crt", "key")),
        "kube-controller-manager.kubeconfig",
        "kube-scheduler.kubeconfig",
    }
    assert {name: mode for name, mode in modes.items() if mode != (0o644 if name.endswith(".crt") else 0o600)} == {}


def test_a_file_that_was_readable_by_all_is_not_any_more(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o666)
    write_file(path, "secret", mode=0o600)
    assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, "secret")


def test_every_file_that_the_control_plane_is_given_is_there(pki: tuple[Path, Identities]) -> None:
    programs = components(Path("/bin"), pki[0], PLAN)
    assert [program.argv[0] for program in programs] == [
        "/bin/etcd",
        "/bin/kube-apiserver",
        "/bin/kube-controller-manager",
        "/bin/kube-scheduler",
    ]
    named = [word.split("=", 1)[1] for program in programs for word in program.argv[1:] if str(pki[0]) in word]
    assert len(named) >= 11
    assert [path for path in named if not Path(path).is_file()] == []


def test_only_the_api_server_listens_beyond_loopback(pki: tuple[Path, Identities]) -> None:
    for program in components(Path("/bin"), pki[0], PLAN):
        listening = [word for word in program.argv if "listen" in word or word.startswith("--bind-address")]
        assert listening or program.name == "kube-apiserver", program.name
        for word in listening:
            assert "127.0.0.1" in word or word == "--bind-address=0.0.0.0", f"{program.name} {word}"
            assert "0.0.0.0" not in word or program.name == "kube-apiserver"  # noqa: S104
    assert "--authorization-mode=Node,RBAC" in components(Path("/bin"), pki[0], PLAN)[1].argv


def test_an_ssh_key_is_one_pair() -> None:
    private, line = ssh_pair("k8snet-lab-mine")
    assert line.endswith(" k8snet-lab-mine")
    assert load_ssh_private_key(private, None).public_key() == load_ssh_public_key(line.encode())


@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        ("ipv4", {"--bind-address=0.0.0.0", "--advertise-address=10.199.0.1", "--service-cluster-ip-range=10.96.0.0/16"}),
        ("dual", {"--bind-address=0.0.0.0", "--advertise-address=10.199.0.1", "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112"}),
        ("ipv6", {"--bind-address=::", "--advertise-address=fd00:10:199::1", "--service-cluster-ip-range=fd00:10:96::/112"}),
    ],
)
def test_the_api_server_is_of_the_families_of_the_lab(family: IpFamily, arguments: set[str]) -> None:
    plan = AddressPlan.of(LabSettings(ip_family=family))
    (server,) = (known for known in components(Path("/bin"), Path("/pki"), plan) if known.name == "kube-apiserver")
    assert arguments <= set(server.argv)
