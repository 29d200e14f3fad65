"""What users do wrong, and clusters that are not well: one clear message, a status that is not 0, nothing made, nothing left."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugin.bench import Bench, Ran
from tests.plugin.cluster import Cluster
from tests.unit.certs import Authority
from tests.unit.fakeapi import FakeApiServer, fake_api, status, write_kubeconfig

READS = "@check('ACME-1')\ndef test_it(k8snet_node): assert k8snet_node.sysctl('net.ipv4.ip_forward') in ('0', '1')"
WAYS = ("-n2", "-pno:xdist")


def kubeconfig(bench: Bench, url: str, *, ca: Authority | None = None, user: dict[str, Any] | None = None) -> Path:
    path = write_kubeconfig(bench.path / "config", url, user)
    data = yaml.safe_load(path.read_text())
    if ca is not None:
        data["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(ca.certificate.read_bytes()).decode()
    path.write_text(yaml.safe_dump(data))
    return path


def told(ran: Ran) -> str:
    """Return the one message of a run that ended before it began."""
    assert ran.status == 1, ran.out
    assert "Traceback" not in ran.out
    assert "INTERNALERROR" not in ran.out
    lines = [line for line in ran.out.splitlines() if "k8snet: " in line]
    messages = {line.partition("k8snet: ")[2].rstrip(" !") for line in lines}
    assert len(messages) == 1, ran.out
    return messages.pop()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("hosts", "days", "ours", "words"),
    [
        (("127.0.0.1",), 100, False, "did not sign this server's certificate: is it another cluster's, or has the cluster got a new one"),
        (("kubernetes",), 100, True, "The server's certificate is one of other names: in kubeconfig "),
        (("127.0.0.1",), -1, True, "certificate has expired"),
    ],
    ids=["authority", "name", "expired"],
)
def test_certificates(bench: Bench, hosts: tuple[str, ...], days: int, ours: bool, words: str, way: str) -> None:
    bench.checks(READS)
    authority = Authority(bench.path, "a")
    with fake_api(authority.server(*hosts, days=(-20, days))) as server:
        path = kubeconfig(bench, server.url, ca=authority if ours else Authority(bench.path, "b"))
        ran = bench.own(f"--k8snet-kubeconfig={path}", way, fake=False)
        assert server.requests == []
    message = told(ran)
    assert message.startswith(f"{server.url}: TLS: ")
    assert words in message
    assert not (bench.path / ".k8snet").exists()


def test_expired_client_certificate(bench: Bench) -> None:
    bench.checks(READS)
    authority = Authority(bench.path, "a")
    certificate, key = authority.issue("me", days=(-20, -10))
    with fake_api(authority.server("127.0.0.1")) as server:
        everything = status(401, "Unauthorized", "Unauthorized")
        server.routes["GET", "/version"] = everything
        server.routes["POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = everything
        path = kubeconfig(bench, server.url, ca=authority, user={"client-certificate": str(certificate), "client-key": str(key)})
        ran = bench.own(f"--k8snet-kubeconfig={path}", fake=False)
    message = told(ran)
    assert f"does not accept the credentials of kubeconfig {path}, which has expired on 20" in message
    assert message.endswith(": get a new kubeconfig")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"<!DOCTYPE html><title>Corp SSO</title>"), "did not answer with JSON but with a web page (Corp SSO); is http://"),
        ((302, b""), "GET /version: HTTP 302; is http://"),
        (
            status(429, "TooManyRequests", "slow down"),
            "HTTP 429: slow down. The API server limits this client or is overloaded",
        ),
        (status(500, "InternalError", "etcd"), "HTTP 500: etcd. The API server itself is in trouble; is its etcd well?"),
        ((503, b""), "HTTP 503: no message. The API server itself is in trouble; is its etcd well?"),
    ],
    ids=["login", "redirect", "429", "500", "503"],
)
def test_answers(bench: Bench, answer: tuple[int, Any], words: str, way: str) -> None:
    bench.checks(READS)
    with fake_api() as server:
        server.routes["GET", "/version"] = answer
        ran = bench.own(f"--k8snet-kubeconfig={kubeconfig(bench, server.url)}", way, fake=False)
    assert words in told(ran)
    assert {method for method, path, *_ in server.requests if "accessreviews" not in path} == {"GET"}


@pytest.mark.parametrize("way", WAYS)
def test_no_rights_at_all(bench: Bench, way: str) -> None:
    """Not even to ask what one may do."""
    bench.checks(READS)
    with fake_api() as server:
        refused = status(403, "Forbidden", 'nodes is forbidden: User "me" cannot list resource "nodes" in API group ""')
        server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
        server.routes["GET", "/api/v1/nodes"] = refused
        reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        server.routes["POST", reviews] = status(403, "Forbidden", 'User "me" cannot create resource "selfsubjectaccessreviews"')
        ran = bench.own(f"--k8snet-kubeconfig={kubeconfig(bench, server.url)}", way, fake=False)
    message = told(ran)
    assert "needs the verb list on nodes; k8snet manifests rbac prints a role with everything that is needed" in message
    assert {method for method, path, *_ in server.requests if path != reviews} == {"GET"}


# ---- an API server that is slow


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with fake_api() as server:
        yield server


def counted(bench: Bench, server: FakeApiServer, *arguments: str) -> Counter[str]:
    """Run checks that read a sysctl of every node; return the requests by what they ask for, those of single pods and nodes apart."""
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): assert k8snet_node.run(['true']).exit_status == 0")
    ran = bench.own(f"--k8snet-kubeconfig={kubeconfig(bench, server.url)}", *arguments, fake=False)
    assert ran.status == 0, ran.out
    return Counter(_kind(method, path) for method, path, *_ in server.requests)


def _kind(method: str, path: str) -> str:
    last = path.rsplit("/", 1)[-1]
    if last == "pods":
        return "make pod" if method == "POST" else "list pods"
    return "exec" if last == "exec" else "rest"


@pytest.mark.parametrize("way", WAYS)
def test_a_slow_api_server_is_asked_no_more_for_more_nodes(bench: Bench, way: str) -> None:
    """Only what has to be made for a node, two pods, and to be opened on it, one exec, is asked for each."""
    found = {}
    for count in (2, 8):
        with fake_api() as server:
            Cluster(server, count)
            found[count] = counted(bench, server, way)
    assert found[2]["rest"] == found[8]["rest"]
    assert {count: (kinds["make pod"], kinds["exec"]) for count, kinds in found.items()} == {2: (4, 2), 8: (16, 8)}


def test_a_slow_api_server_is_waited_for(bench: Bench, server: FakeApiServer) -> None:
    """Every call takes its time, of which there are few enough, and many of them at a time."""
    Cluster(server, 4)
    server.delay_s = 0.3
    kinds = counted(bench, server)
    assert kinds["make pod"] == 8
