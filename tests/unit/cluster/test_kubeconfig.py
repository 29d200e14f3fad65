"""What is wrong with a kubeconfig is told in one message that says what to do, and never quotes it."""

from __future__ import annotations

import base64
import datetime
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_k8snet.cluster import credentials
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.certificate import not_after
from pytest_k8snet.errors import AuthenticationError, ConfigurationError
from tests.unit.certs import DAY, Authority
from tests.unit.fakeapi import FakeApiServer, write_kubeconfig

URL = "https://192.0.2.1:6443"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def config(folder: Path, *, user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None) -> str:
    path = write_kubeconfig(folder / "config", URL, user if user is not None else {"token": "top-secret"})
    data = yaml.safe_load(path.read_text())
    data["clusters"][0]["cluster"].update(cluster or {})
    path.write_text(yaml.safe_dump(data))
    return str(path)


def error(path: str, kind: type[Exception] = ConfigurationError) -> str:
    learnt: list[str] = []
    with pytest.raises(kind) as caught:
        Api.from_kubeconfig(path, learn=learnt.extend)
    message = str(caught.value)
    assert message.startswith(f"kubeconfig {path}: ")
    assert "top-secret" not in message
    assert "\n" not in message
    return message.removeprefix(f"kubeconfig {path}: ")


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("user", "cluster", "message"),
    [
        ({}, {"server": None}, "cluster 'lab' has no server"),
        ({}, {"server": "192.0.2.1:6443"}, "server '192.0.2.1:6443' of cluster 'lab' is not a URL such as https://192.0.2.1:6443"),
        ({}, {"server": "https://[::1"}, "server 'https://[::1' of cluster 'lab' is not a URL such as https://192.0.2.1:6443"),
        ({}, {"server": ["x"]}, "server ['x'] of cluster 'lab' is not a URL such as https://192.0.2.1:6443"),
        ({}, {"proxy-url": "proxy:http"}, "proxy-url of cluster 'lab' is not a URL such as http://proxy.example:3128"),
        ({}, {"certificate-authority": "no.crt"}, "certificate-authority of cluster 'lab': there is no file {folder}/no.crt"),
        ({"client-certificate": "no.crt", "client-key": "no.key"}, {}, "client-certificate of user 'me': there is no file {folder}/no.crt"),
        ({"client-certificate": "config", "client-key": "no.key"}, {}, "client-key of user 'me': there is no file {folder}/no.key"),
        ({"client-certificate": "config", "client-key": "."}, {}, "client-key of user 'me': {folder} cannot be read: Is a directory"),
        ({"client-certificate": "config"}, {}, "user 'me' has a client-certificate and no client-key"),
        ({"tokenFile": "/no/token"}, {}, "tokenFile of user 'me': there is no file /no/token"),
        (
            {"client-certificate-data": "top-secret!", "client-key-data": "x"},
            {},
            "client-certificate-data of user 'me' is not base64; was it cut or wrapped when it was copied?",
        ),
        ({}, {"certificate-authority-data": "LS0t\nLS"}, "certificate-authority-data of cluster 'lab' is not base64; "),
        (
            {},
            {"certificate-authority-data": in_base64("top-secret")},
            "its certificate-authority is no certificate in PEM form",
        ),
        (
            {"client-certificate-data": in_base64("top-secret"), "client-key-data": in_base64("top-secret")},
            {},
            "its client-certificate and client-key are not a certificate and a key in PEM form",
        ),
    ],
)
def test_what_is_wrong(tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], message: str) -> None:
    told = error(config(tmp_path, user=user, cluster=cluster))
    assert told.startswith(message.format(folder=tmp_path))


def test_key_of_another_certificate(tmp_path: Path, authority: Authority) -> None:
    certificate, _ = authority.issue("me")
    _, key = authority.issue("you")
    told = error(config(tmp_path, user={"client-certificate": str(certificate), "client-key": str(key)}))
    assert told == "its client-certificate and client-key do not belong together"


def test_key_with_a_passphrase(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("me", passphrase=b"top-secret")
    told = error(config(tmp_path, user={"client-certificate": certificate.name, "client-key": key.name}))
    assert told == "its client-key has a passphrase; keys in a kubeconfig have to be without"


def test_user_that_is_not_there(tmp_path: Path) -> None:
    path = Path(config(tmp_path))
    path.write_text(path.read_text().replace("name: me", "name: you"))
    assert error(str(path)) == "context 'lab' is of user 'me', which the file does not have"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: \xff\xfe", "not UTF-8 text (byte 3)"),
        (b"contexts: top-secret\0", "not YAML"),
        (b"contexts:\n\t- top-secret", None),
        (b"[" * 100_000, None),
        (b"contexts: 2001-99-99", "not YAML"),
        (b"{[a]: b}", None),
        (b"contexts: [top-secret, 1, null]\n", "it has no contexts, so it names no cluster; log in to one again, or name another file"),
        (b"contexts: {}\n", "not a kubeconfig (no contexts)"),
        (b"#" * (17 << 20), "more than 16 MiB; that is no kubeconfig"),
    ],
    ids=["no-text", "nul", "tab", "deep", "date", "key", "entries", "mapping", "large"],
)
def test_garbage(tmp_path: Path, data: bytes, message: str | None) -> None:
    file = tmp_path / "config"
    file.write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        Api.from_kubeconfig(str(file))
    assert "top-secret" not in str(caught.value)
    if message is None:
        assert str(caught.value).endswith("not YAML")
    else:
        assert str(caught.value) == f"kubeconfig {file}: {message}"


def test_aliases_within_aliases(tmp_path: Path) -> None:
    """Ten to the tenth names: they are never written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)]
    lines += ["current-context: a", "contexts: [{name: a, context: {cluster: c, user: u}}]", "clusters: [{name: c, cluster: *a10}]"]
    lines += ["users: [{name: u, user: *a10}]"]
    file = tmp_path / "config"
    file.write_text("\n".join(lines))
    assert error(str(file)) == "cluster 'c' has no server"


def test_kubeconfig_that_can_be_read_only_once(tmp_path: Path) -> None:
    """As `--k8snet-kubeconfig=<(...)` gives it."""
    text = Path(config(tmp_path)).read_text()
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    try:
        assert Api.from_kubeconfig(f"/dev/fd/{reader}").server == URL
    finally:
        os.close(reader)


def test_files_beside_the_kubeconfig(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = authority.issue("me")
    user = {"client-certificate": certificate.name, "client-key": key.name}
    config(tmp_path, user=user, cluster={"certificate-authority": authority.certificate.name})
    monkeypatch.chdir(tmp_path.parent)
    api = Api.from_kubeconfig(f"{tmp_path.name}/config")
    assert api.configuration.ssl_ca_cert == str(authority.certificate)
    assert api.configuration.key_file == str(key)


def several(folder: Path, **files: dict[str, Any]) -> str:
    """Write kubeconfigs, each into a folder of its own, and return them as KUBECONFIG names them."""
    for name, content in files.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config").write_text(yaml.safe_dump(content))
    return os.pathsep.join(str(folder / name / "config") for name in files)


CONTEXTS = {"current-context": "prod", "contexts": [{"name": "prod", "context": {"cluster": "lab", "user": "me"}}]}


def test_a_list_of_files_is_one_kubeconfig(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("me")
    user = {"name": "me", "user": {"client-certificate": "me.crt", "client-key": "me.key"}}
    cluster = {"server": URL, "certificate-authority": "ca.crt"}
    path = several(
        tmp_path,
        a={"users": [user]},
        b={"clusters": [{"name": "lab", "cluster": cluster}], **CONTEXTS},
        c={"current-context": "other", "clusters": [{"name": "lab", "cluster": {"server": "https://192.0.2.9"}}], "users": []},
        d={},
    )
    for name, file in (("a/me.crt", certificate), ("a/me.key", key), ("b/ca.crt", authority.certificate)):
        (tmp_path / name).write_text(file.read_text())
    (tmp_path / "d" / "config").write_text("")
    api = Api.from_kubeconfig(f"{tmp_path}/none:{path}:")
    assert api.server == URL
    assert api.configuration.ssl_ca_cert == str(tmp_path / "b" / "ca.crt")
    assert (api.configuration.cert_file, api.configuration.key_file) == (str(tmp_path / "a" / "me.crt"), str(tmp_path / "a" / "me.key"))


def test_a_plugin_of_a_list_is_run_beside_its_file(tmp_path: Path) -> None:
    token = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t0ken"}}
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "interactiveMode": "Never"}}
    path = several(
        tmp_path, a={"clusters": [{"name": "lab", "cluster": {"server": URL}}], **CONTEXTS}, b={"users": [{"name": "me", "user": user}]}
    )
    (tmp_path / "b" / "plugin").write_text(f"#!/bin/sh\necho '{json.dumps(token)}'\n")
    (tmp_path / "b" / "plugin").chmod(0o755)
    assert learnt(path) == {"t0ken"}


def test_what_is_wrong_with_a_list(tmp_path: Path) -> None:
    none = f"{tmp_path}/x:{tmp_path}/y"
    assert error(none) == "there is none of these files"
    clusters = {"clusters": [{"name": "lab", "cluster": {"server": URL}}]}
    assert error(several(tmp_path, a=clusters, b={})) == (
        "it has no contexts, so it names no cluster; log in to one again, or name another file"
    )
    assert error(several(tmp_path, a=clusters, b=CONTEXTS)) == "context 'prod' is of user 'me', which the files do not have"
    (tmp_path / "b" / "config").write_text("- top-secret")
    with pytest.raises(ConfigurationError) as caught:
        Api.from_kubeconfig(f"{tmp_path}/a/config:{tmp_path}/b/config")
    assert str(caught.value) == f"kubeconfig {tmp_path}/b/config: not a kubeconfig (no contexts)"


def test_a_file_with_a_colon_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert Api.from_kubeconfig(config(folder)).server == URL


def learnt(path: str) -> set[str]:
    found: set[str] = set()
    Api.from_kubeconfig(path, learn=found.update).authorization()
    return found


def test_secrets_are_told_to_who_hides_them(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("me")
    (tmp_path / "token").write_text("of-a-file")
    pem = key.read_text()
    assert "of-a-file" in learnt(config(tmp_path, user={"tokenFile": "token"}))
    assert learnt(config(tmp_path, user={"token": "of-the-user"})) == {"of-the-user"}
    assert {"p4ss", in_base64("me:p4ss")} <= learnt(config(tmp_path, user={"username": "me", "password": "p4ss"}))
    assert learnt(config(tmp_path, user={"client-certificate": certificate.name, "client-key": key.name})) == {pem}
    data = {"client-certificate-data": in_base64(certificate.read_text()), "client-key-data": in_base64(pem)}
    assert learnt(config(tmp_path, user=data)) == {in_base64(pem), pem}
    provider = {"name": "oidc", "config": {"id-token": "i", "refresh-token": "r", "client-secret": "c", "idp-issuer-url": "x"}}
    assert learnt(config(tmp_path, user={"auth-provider": provider})) == {"i", "r", "c"}
    assert {"p@ss", "p%40ss"} <= learnt(config(tmp_path, cluster={"proxy-url": "http://me:p%40ss@192.0.2.2:3128"}))


def test_password_of_a_proxy_goes_into_a_header(tmp_path: Path) -> None:
    api = Api.from_kubeconfig(config(tmp_path, cluster={"proxy-url": "http://me:p%40ss@192.0.2.2:3128"}))
    assert api.configuration.proxy == "http://192.0.2.2:3128"
    assert api.configuration.proxy_headers == {"proxy-authorization": "Basic " + in_base64("me:p@ss")}


# ---- credential plugins


def plugin(folder: Path, script: str, **more: Any) -> str:
    file = folder / "plugin"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    spec = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", **more}
    return config(folder, user={"exec": spec})


def answer(status: dict[str, Any]) -> str:
    return "printf %s '" + json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}) + "'"


@pytest.mark.parametrize(
    ("script", "more", "message"),
    [
        ("echo token expired, log in >&2; exit 1", {}, "failed: exit status 1: token expired, log in. Run it by hand to see more"),
        ("exit 3", {}, "failed: exit status 3: no message. Run it by hand to see more"),
        ("kill -9 $$", {}, "failed: exit status -9: no message. Run it by hand to see more"),
        ("echo top-secret", {}, "did not write an ExecCredential as JSON"),
        ("echo '[]'", {}, "did not write an ExecCredential as JSON"),
        (answer({}), {}, "gave neither a token nor a certificate with its key"),
        (answer({"clientCertificateData": "x"}), {}, "gave neither a token nor a certificate with its key"),
        (answer({"token": "top-secret", "expirationTimestamp": "soon"}), {}, "gave an expirationTimestamp that is no time: 'soon'"),
        (
            answer({"token": "top-secret"}),
            {"apiVersion": "v1beta1"},
            "speaks client.authentication.k8s.io/v1, and the kubeconfig wants v1beta1",
        ),
        ("", {"command": "no-such-plugin"}, "cannot be run: No such file or directory"),
        (
            "",
            {"command": "no-such-plugin", "installHint": "apt install it\n"},
            "cannot be run: No such file or directory (apt install it)",
        ),
        ("", {"command": None}, "names no command"),
    ],
)
def test_plugin_that_gives_nothing(tmp_path: Path, script: str, more: dict[str, Any], message: str) -> None:
    told = error(plugin(tmp_path, script, **more), AuthenticationError)
    command = more.get("command", "./plugin")
    assert told == f"the credential plugin {str(command)!r} {message}"


def test_plugin_that_waits_for_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a child that holds its output open, and no terminal to ask."""
    monkeypatch.setattr(credentials.Plugin.run, "__defaults__", (0.3,))
    path = plugin(tmp_path, "if read line; then exit 9; fi\nsleep 600 &\necho $! > child\nsleep 600")
    told = error(path, AuthenticationError)
    assert told == "the credential plugin './plugin' has not ended after 0.3 s: does it wait for a login? Run it by hand first"
    until = time.monotonic() + 20.0
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until, "what the plugin started still runs"
        time.sleep(0.02)


def test_plugin_with_a_token(tmp_path: Path) -> None:
    script = 'test "$GIVEN" = x && test -n "$KUBERNETES_EXEC_INFO" && test "$1" = one && ' + answer({"token": "of-the-plugin"})
    path = plugin(tmp_path, script, args=["one"], env=[{"name": "GIVEN", "value": "x"}, {"name": "MY_TOKEN", "value": "of-the-env"}])
    assert learnt(path) == {"of-the-plugin", "of-the-env"}
    assert Api.from_kubeconfig(path).authorization() == {"authorization": "Bearer of-the-plugin"}


def test_plugin_is_told_of_the_cluster(tmp_path: Path) -> None:
    path = plugin(tmp_path, 'printf %s "$KUBERNETES_EXEC_INFO" > info; ' + answer({"token": "t"}), provideClusterInfo=True)
    Api.from_kubeconfig(path)
    info = json.loads((tmp_path / "info").read_text())
    assert info["spec"] == {"interactive": False, "cluster": {"server": URL}}


def test_plugin_with_a_certificate(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("me")
    path = plugin(tmp_path, answer({"clientCertificateData": certificate.read_text(), "clientKeyData": key.read_text()}))
    api = Api.from_kubeconfig(path)
    assert api.authorization() == {}
    assert Path(str(api.configuration.key_file)).read_text() == key.read_text()
    assert key.read_text() in learnt(path)


@pytest.mark.parametrize(("hours", "runs"), [(-1, 3), (1, 1), (None, 1)])
def test_plugin_runs_again_when_its_token_expires(tmp_path: Path, hours: int | None, runs: int) -> None:
    status: dict[str, Any] = {"token": "of-the-plugin"}
    if hours is not None:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
        status["expirationTimestamp"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    api = Api.from_kubeconfig(plugin(tmp_path, "echo run >> runs; " + answer(status)))
    assert [api.authorization() for _ in range(2)] == [{"authorization": "Bearer of-the-plugin"}] * 2
    assert (tmp_path / "runs").read_text().count("run") == runs


def test_plugin_that_fails_later(tmp_path: Path, server: FakeApiServer) -> None:
    end = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    once = answer({"token": "first", "expirationTimestamp": end})
    path = plugin(tmp_path, f"if [ -e ran ]; then echo logged out >&2; exit 1; fi; touch ran; {once}")
    api = Api.from_kubeconfig(path)
    with pytest.raises(AuthenticationError, match="exit status 1: logged out"):
        api.get("/version")


# ---- certificates


@pytest.mark.parametrize("days", [-1, 30, 365 * 40])
def test_end_of_a_certificate(authority: Authority, days: int) -> None:
    certificate, key = authority.issue("me", days=(-5, days))
    end = not_after(str(certificate))
    assert end is not None
    assert abs(end - (datetime.datetime.now(datetime.UTC) + days * DAY)) < datetime.timedelta(minutes=5)
    assert not_after(str(key)) is None


@pytest.mark.parametrize("change", [lambda text: "", lambda text: text[:200], lambda text: text.replace("M", "9")])
def test_end_of_what_is_no_certificate(tmp_path: Path, authority: Authority, change: Callable[[str], str]) -> None:
    file = tmp_path / "x"
    file.write_text(change(authority.certificate.read_text()))
    assert not_after(str(file)) is None
    assert not_after(str(tmp_path / "none")) is None
    assert not_after(None) is None
