"""What a user is told when the API server cannot be spoken to: what is wrong, and whose move it is."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_error import ApiError, ApiRefusedError
from pytest_k8snet.errors import ClusterError
from tests.unit.certs import Authority
from tests.unit.fakeapi import Answer, FakeApiServer, fake_api, status, write_kubeconfig


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "theirs")


def asked(folder: Path, url: str, *, ca: Authority | None = None, client: tuple[Path, Path] | None = None) -> str:
    """Ask for the version and return the error that this ends with."""
    user = {"token": "top-secret"} if client is None else {"client-certificate": str(client[0]), "client-key": str(client[1])}
    path = write_kubeconfig(folder / "config", url, user)
    data = yaml.safe_load(path.read_text())
    if ca is not None:
        data["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(ca.certificate.read_bytes()).decode()
    path.write_text(yaml.safe_dump(data))
    api = Api.from_kubeconfig(str(path))
    try:
        with pytest.raises(ClusterError) as caught:
            api.get("/version")
    finally:
        api.close()
    message = str(caught.value)
    assert "top-secret" not in message
    assert "\n" not in message
    return message.replace(str(path), "CONFIG").replace(url, "URL")


def asked_with_tls(folder: Path, tls: ssl.SSLContext, **more: Any) -> str:
    with fake_api(tls) as server:
        server.routes["GET", "/version"] = (200, {"gitVersion": "v1"})
        return asked(folder, server.url, **more)


def test_tls_that_works(tmp_path: Path, ours: Authority) -> None:
    with fake_api(ours.server("127.0.0.1", clients=ours)) as server:
        server.routes["GET", "/version"] = (200, {"gitVersion": "v1"})
        certificate, key = ours.issue("me")
        path = write_kubeconfig(tmp_path / "config", server.url, {"client-certificate": str(certificate), "client-key": str(key)})
        data = yaml.safe_load(path.read_text())
        data["clusters"][0]["cluster"]["certificate-authority"] = str(ours.certificate)
        path.write_text(yaml.safe_dump(data))
        api = Api.from_kubeconfig(str(path))
        assert api.get("/version") == {"gitVersion": "v1"}
        api.close()


def test_another_authority(tmp_path: Path, ours: Authority, theirs: Authority) -> None:
    message = asked_with_tls(tmp_path, theirs.server("127.0.0.1"), ca=ours)
    assert message.startswith("URL: TLS: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: ")
    assert message.endswith(
        "The certificate authority in kubeconfig CONFIG did not sign this server's certificate: is it another cluster's, "
        "or has the cluster got a new one since?"
    )


def test_no_authority(tmp_path: Path, ours: Authority) -> None:
    assert "did not sign this server's certificate" in asked_with_tls(tmp_path, ours.server("127.0.0.1"))


def test_certificate_of_other_names(tmp_path: Path, ours: Authority) -> None:
    message = asked_with_tls(tmp_path, ours.server("kubernetes.example", "192.0.2.1"), ca=ours)
    assert "certificate is not valid for '127.0.0.1'" in message
    assert message.endswith(
        "The server's certificate is one of other names: in kubeconfig CONFIG use a server name that is in it, "
        "or say which one is with tls-server-name"
    )


@pytest.mark.parametrize(("days", "words"), [((-20, -10), "certificate has expired"), ((10, 20), "certificate is not yet valid")])
def test_server_certificate_out_of_time(tmp_path: Path, ours: Authority, days: tuple[int, int], words: str) -> None:
    message = asked_with_tls(tmp_path, ours.server("127.0.0.1", days=days), ca=ours)
    assert words in message
    assert message.endswith(
        "It is the server's certificate; is the clock right here, and has the control plane's certificate been renewed?"
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificate_that_has_expired(tmp_path: Path, ours: Authority, version: ssl.TLSVersion) -> None:
    """Of a server, or a proxy before it, that looks at the dates while TLS is agreed upon."""
    tls = ours.server("127.0.0.1", clients=ours)
    tls.maximum_version = version
    message = asked_with_tls(tmp_path, tls, ca=ours, client=ours.issue("me", days=(-20, -10)))
    assert "the client certificate of kubeconfig CONFIG, which has expired on 20" in message
    assert message.endswith(": get a new kubeconfig")


def test_client_certificate_of_another_authority(tmp_path: Path, ours: Authority, theirs: Authority) -> None:
    tls = ours.server("127.0.0.1", clients=ours)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones may only hang up
    message = asked_with_tls(tmp_path, tls, ca=ours, client=theirs.issue("me"))
    assert message.endswith("The server does not accept the client certificate of kubeconfig CONFIG: is it another cluster's?")


def test_no_client_certificate(tmp_path: Path, ours: Authority) -> None:
    tls = ours.server("127.0.0.1", clients=ours)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    message = asked_with_tls(tmp_path, tls, ca=ours)
    assert message.endswith("Does the server want a client certificate? kubeconfig CONFIG has none")


@pytest.mark.parametrize(("days", "words"), [((-20, -10), ", which has expired on 20"), ((-20, 10), ": expired, or of another cluster?")])
def test_client_certificate_that_kubernetes_refuses(tmp_path: Path, ours: Authority, days: tuple[int, int], words: str) -> None:
    with fake_api() as server:
        server.routes["GET", "/version"] = status(401, "Unauthorized", "Unauthorized")
        message = asked(tmp_path, server.url.replace("http:", "https:"), client=ours.issue("me", days=days))
        assert "Does the server speak TLS at this port" in message
    with fake_api(ours.server("127.0.0.1")) as server:
        server.routes["GET", "/version"] = status(401, "Unauthorized", "Unauthorized")
        message = asked(tmp_path, server.url, ca=ours, client=ours.issue("me", days=days))
    assert message.startswith("GET /version: HTTP 401: Unauthorized. URL does not accept the credentials of kubeconfig CONFIG" + words)


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    message = asked(tmp_path, url)
    assert message == (
        "URL: no connection: [Errno 111] Connection refused. Is the cluster up, and reachable from here (kubeconfig CONFIG)?"
    )


def test_name_that_does_not_resolve(tmp_path: Path) -> None:
    message = asked(tmp_path, "https://no-such-host.invalid:6443")
    assert message.startswith("URL: no connection: ")
    assert "Is the name no-such-host.invalid known here (kubeconfig CONFIG)?" in message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(113, "No route to host"), "[Errno 113] No route to host"),
        (OSError(101, "Network is unreachable"), "[Errno 101] Network is unreachable"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_no_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str) -> None:
    def connect(*_args: object, **_more: object) -> socket.socket:
        raise error

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    message = asked(tmp_path, "https://192.0.2.1:6443")
    assert message.startswith("URL: no connection: ")
    assert words in message
    assert message.endswith("Is the cluster up, and reachable from here (kubeconfig CONFIG)?")


def test_server_that_hangs_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)

        def hang_up() -> None:
            for _ in range(2):  # the first is tried again
                connection, _ = listening.accept()
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        message = asked(tmp_path, f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert message.startswith("URL: no connection: ")


WHOSE = "is URL a Kubernetes API server (kubeconfig CONFIG), or a proxy before it that wants a login?"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in &middot; Corp\n SSO</title></head><body>" + b"x" * 5000


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, PAGE), f"GET /version: URL did not answer with JSON but with a web page (Sign in · Corp SSO); {WHOSE}"),
        ((403, PAGE), f"GET /version: HTTP 403 with a web page (Sign in · Corp SSO); {WHOSE}"),
        (
            (302, b""),
            f"GET /version: HTTP 302; {WHOSE}",
        ),
        ((502, b"<html>x"), f"GET /version: HTTP 502 with a web page; {WHOSE}"),
        (
            status(429, "TooManyRequests", "too many requests"),
            "GET /version: HTTP 429: too many requests. The API server limits this client or is overloaded; try again later",
        ),
        (
            status(500, "InternalError", "etcdserver: request timed out"),
            "GET /version: HTTP 500: etcdserver: request timed out. The API server itself is in trouble; is its etcd well?",
        ),
        (
            status(500, "InternalError", 'Internal error occurred: failed calling webhook "pods.policy.example": no endpoints'),
            'GET /version: HTTP 500: Internal error occurred: failed calling webhook "pods.policy.example": no endpoints',
        ),
        (
            (503, b""),
            "GET /version: HTTP 503: no message. The API server itself is in trouble; is its etcd well?",
        ),
        ((404, b"404 page not found"), "GET /version: HTTP 404: 404 page not found"),
        ((200, b"ok"), f"GET /version: URL did not answer with JSON; {WHOSE}"),
        ((200, b'{"gitVersion": "v1'), f"GET /version: URL did not answer with JSON; {WHOSE}"),
    ],
    ids=["login", "forbidden", "redirect", "gateway", "429", "500", "webhook", "503", "404", "text", "cut"],
)
def test_answers_that_are_none(tmp_path: Path, server: FakeApiServer, answer: Answer, message: str) -> None:
    server.routes["GET", "/version"] = answer
    assert asked(tmp_path, server.url) == message


def test_kinds_of_errors(server: FakeApiServer, api: Api) -> None:
    for code, kind in ((401, ApiRefusedError), (429, ApiError), (302, ApiError), (503, ApiError)):
        server.routes["GET", "/version"] = (code, b"")
        with pytest.raises(kind):
            api.get("/version")


def test_server_that_asks_to_wait(server: FakeApiServer, api: Api) -> None:
    """For an hour, which nobody has."""
    retries = api.configuration.retries
    assert isinstance(retries, urllib3.Retry)
    assert retries.retry_after_max <= 5
    api.configuration.retries = retries.new(retry_after_max=0.05)
    server.headers["Retry-After"] = "3600"
    server.routes["GET", "/version"] = status(429, "TooManyRequests", "too many requests")
    with pytest.raises(ApiError, match="HTTP 429"):
        api.get("/version")
    assert server.asked("GET") == ["/version"] * 3
