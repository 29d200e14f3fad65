"""What is hidden, and what is not: a report without its values would be as useless as one with secrets in it is dangerous."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pytest_k8snet.record.redact import HIDDEN, Redactor, is_secret, secrets_of

HUSH = "hunter2-s3cr3t"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl_-x"
BASIC = base64.b64encode(b"admin:hunter2").decode()
PEM = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
SSH_KEY = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()

BY_SHAPE = {
    "jwt": (f"token {JWT} is expired", JWT),
    "jwt-unsigned": ("got eyJhbGciOiJub25lIn0.eyJpc3MiOiJrIn0.", "eyJpc3MiOiJrIn0"),
    "bearer": (f"curl -H 'Authorization: Bearer {HUSH}' https://x", HUSH),
    "bearer-alone": ("sent Bearer abcdefghijklmnopqrst to it", "abcdefghijklmnopqrst"),
    "bearer-in-dict": (f"headers = {{'Accept': 'json', 'authorization': 'Bearer {HUSH}'}}", HUSH),
    "bearer-cut-by-pytest": ("{'authorization': 'Bearer abcdefghijk...tuvwxyz0123'}", "tuvwxyz0123"),
    "basic": (f"header basic {BASIC} sent", BASIC),
    "header-of-another-scheme": ("Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=fe5f80", "fe5f80"),
    "cookie": ("Set-Cookie: session=abc123; Path=/", "abc123"),
    "websocket-subprotocol": ("sec-websocket-protocol: base64url.bearer.authorization.k8s.io.aHVudGVyMg, v4", "aHVudGVyMg"),
    "pem": (f"got: {PEM} end", PEM.splitlines()[3]),
    "pem-cut": (PEM[:300], PEM.splitlines()[1]),
    "pem-in-json": (json.dumps({"k": PEM}), PEM.splitlines()[3]),
    "ssh-key": (SSH_KEY, SSH_KEY.splitlines()[1]),
    "pem-in-base64": (f"client-key: {base64.b64encode(PEM.encode()).decode()}", base64.b64encode(PEM.encode()).decode()[40:80]),
    "url": ("proxy http://me:hunter2@proxy.example:3128 refused", "hunter2"),
    "url-with-at": ("https://me:p@ss-hunter2@host/path", "ss-hunter2"),
    "url-token": ("cloning https://ghp_0123456789abcdefghijkl@host/x", "ghp_0123456789"),
    "url-in-json": ('{"u": "http:\\/\\/me:hunter2@proxy"}', "hunter2"),
    "flag": (f"kube-proxy --config=/x --token={HUSH} --v=2", HUSH),
    "flag-spaced": (f"iperf3 --password {HUSH} -c x", HUSH),
    "flag-quoted": ("mysql --password='two words' x", "two words"),
    "flag-of-many-words": (f"--oidc-client-secret={HUSH}", HUSH),
    "variable": (f"DB_PASSWORD={HUSH} ./start", HUSH),
    "query": (f"GET /x?access_token={HUSH}&y=1", HUSH),
    "json": (f'{{"user": "me", "password": "{HUSH}"}}', HUSH),
    "json-camel-case": (f'"clientSecret":"{HUSH}"', HUSH),
    "json-in-json": (json.dumps(json.dumps({"apiKey": HUSH, "n": 1})), HUSH),
    "json-quote-inside": ('{"password": "one\\"two"}', "two"),
    "python": (f"{{'secret_key': '{HUSH}'}}", HUSH),
    "assignment-of-a-local": (f"token      = '{HUSH}'", HUSH),
    "yaml": (f"  server: https://x\n  token: {HUSH}\n  mtu: 1500", HUSH),
    "yaml-words": ("users:\n- password: correct horse battery\n", "battery"),
    "yaml-block": ("a:\n  private_key: |\n    firstline\n    secondline\n  b: c", "secondline"),
    "yaml-env": (f"- name: DB_PASSWORD\n  value: {HUSH}\n", HUSH),
    "json-env": (f'{{"name": "API_TOKEN", "value": "{HUSH}"}}', HUSH),
    "in-a-sentence": (f"login failed: password: {HUSH}", HUSH),
    "at-the-end-of-a-sentence": ("tried with password: correcthorse", "correcthorse"),
    "x-header": (f"X-Auth-Token: {HUSH}\r\n", HUSH),
    "tcp-fast-open": ("net.ipv4.tcp_fastopen_key = 0a1b2c3d-00000000-00000000-00000000", "0a1b2c3d"),
    "ipv6-stable-secret": ("net.ipv6.conf.all.stable_secret=2001:db8::1", "2001:db8::1"),
}


@pytest.mark.parametrize(("text", "secret"), BY_SHAPE.values(), ids=BY_SHAPE)
def test_hidden_by_shape(text: str, secret: str) -> None:
    assert secret in text
    hidden = Redactor().text(text)
    assert secret not in hidden
    assert HIDDEN in hidden
    assert Redactor().text(hidden) == hidden
    assert secret not in json.dumps(Redactor().json({"a": [text]}))


HARMLESS = (
    "node-a: eth0 MTU 1450, want 1500 (ip -j link show eth0)",
    "net.ipv4.tcp_syncookies = 1, net.sctp.cookie_preserve_enable = 1",
    "net.ipv4.ip_local_port_range 1024 65535",
    "pid 812: /usr/local/bin/kube-proxy --config=/var/lib/kube-proxy/config.conf --proxy-mode=ipvs",
    "--token-auth-file=/etc/tokens --service-account-private-key-file=/etc/kubernetes/pki/sa.key",
    "tokenFile: /var/run/token",
    "secretName: regcred",
    "automountServiceAccountToken: false",
    "image-pull-secret=regcred --k8snet-image-pull-secret=regcred imagePullSecrets: regcred",
    "--k8snet-image-pull-secret regcred",
    "failed to fetch anonymous token: unexpected status from GET request to https://registry.example/token: 401 Unauthorized",
    'failed to fetch oauth token: Post "https://auth.example/token": net/http: TLS handshake timeout',
    "oidc: verify token: oidc: token is expired (Token Expiry: 2026-01-01)",
    "invalid bearer token: expired",
    "Unauthorized: bearer authentication is required, basic authentication was given",
    'WWW-Authenticate: Bearer realm="x"',
    "https://192.168.10.1:6443, kubeconfig /home/me/.kube/config (context a@b)",
    "http://[2001:db8::1]:10249/proxyMode",
    "ssh://core@node-1",
    "secret kube-system/regcred not found",
    'MountVolume.SetUp failed for volume "x" : secret "regcred" not found',
    "node-token-1[cluster]: api 443",
    "ACME-5[db-token:node-123456] ACME-6[/etc/passwd:node-1]",
    "password=${PASSWORD} password: <password> --token=$TOKEN",
    "password=",
    '"token": null, "password": ""',
    "TCP  0A600001:01BB rr\n  -> C0A80A01:192B      Masq    1      2          0",
    "eth0@if12 fe80::1 dev eth0",
    "use --token to give one",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless(text: str) -> None:
    assert Redactor(["something-else-entirely"]).text(text) == text


def test_nodes_that_are_called_like_secrets() -> None:
    redactor = Redactor()
    message = "db-token: eth0 MTU 1450, want 1500\n  and token: eth0 of db-token: eth1 abc123"
    assert redactor.text(message) != message
    redactor.spare(["db-token"])
    assert redactor.text(message) == "db-token: eth0 MTU 1450, want 1500\n  and token: eth0 of db-token: eth1 abc123"
    for text in ("db-token=abc", '"db-token": "abc"', "--db-token abc", "a-db-token: abc"):
        assert "abc" not in redactor.text(text)
    assert redactor.json({"db-token": "abc"}) == {"db-token": HIDDEN}


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        ({"token": HUSH, "tokens": 100}, {"token": HIDDEN, "tokens": 100}),
        ({"a": {"password": 123456, "clientSecret": None}}, {"a": {"password": HIDDEN, "clientSecret": None}}),
        ({"passwords": ["x"], "api_key": ["x", "y"]}, {"passwords": ["x"], "api_key": [HIDDEN, HIDDEN]}),
        ({"image-pull-secret": {"value": "regcred"}}, {"image-pull-secret": {"value": "regcred"}}),
        ({"secret": {"name": "regcred"}}, {"secret": {"name": "regcred"}}),
        ([["kube-proxy", "--token", HUSH, "--v", "2"]], [["kube-proxy", "--token", HIDDEN, "--v", "2"]]),
        (["--token", "--v=2"], ["--token", "--v=2"]),
        ({"name": "DB_PASSWORD", "value": HUSH}, {"name": "DB_PASSWORD", "value": HIDDEN}),
        ({"key": "net.ipv4.tcp_fastopen_key", "value": "0a-0b"}, {"key": "net.ipv4.tcp_fastopen_key", "value": HIDDEN}),
        ({"key": "net.ipv4.tcp_syncookies", "value": "1"}, {"key": "net.ipv4.tcp_syncookies", "value": "1"}),
        (
            {"kind": "Secret", "metadata": {"name": "x"}, "data": {"anything": "aHVudGVyMg=="}},
            {"kind": "Secret", "metadata": {"name": "x"}, "data": {"anything": HIDDEN}},
        ),
        ({"kind": "ConfigMap", "data": {"mode": "ipvs"}}, {"kind": "ConfigMap", "data": {"mode": "ipvs"}}),
        ({"mtu": 1500, "up": True, "x": None, "f": 1.5}, {"mtu": 1500, "up": True, "x": None, "f": 1.5}),
    ],
)
def test_json(value: Any, hidden: Any) -> None:
    assert Redactor().json(value) == hidden
    assert Redactor().clean(json.dumps(value)) <= (value == hidden)


@pytest.mark.parametrize(
    "text",
    [
        "got {0} from it",
        "x{0}y",
        "{1}",
        "?t={2}",
        "line '{3}'",
    ],
    ids=["plain", "inside-a-word", "base64", "url", "json"],
)
def test_hidden_by_value(text: str) -> None:
    value = 'Zq+7/kk "quoted" 12345'
    forms = (value, base64.b64encode(value.encode()).decode(), "Zq%2B7%2Fkk%20%22quoted%22%2012345", json.dumps(value)[1:-1])
    given = text.format(*forms)
    assert HIDDEN not in Redactor().text(given)
    assert not Redactor([value]).clean(given)
    hidden = Redactor([value]).text(given)
    assert HIDDEN in hidden
    assert not any(form.rstrip("=") in hidden for form in forms)


def test_short_values_are_hidden_only_alone() -> None:
    redactor = Redactor(["secure", "abc"])
    assert redactor.text("insecure-skip, 'secure', abc") == "insecure-skip, '[redacted]', abc"


def test_lines_of_a_key_are_hidden_one_by_one() -> None:
    line = PEM.splitlines()[5]
    assert Redactor().text(f"bad line {line}") == f"bad line {line}"
    assert Redactor([PEM]).text(f"bad line {line}") == "bad line [redacted]"
    assert Redactor([PEM]).text("-----BEGIN CERTIFICATE-----") == "-----BEGIN CERTIFICATE-----"


@pytest.mark.parametrize("kept", [(40, 20), (7, 30), (20, 7), (0, 12), (12, 0)])
def test_what_pytest_shortens_in_the_middle(kept: tuple[int, int]) -> None:
    value = "Q0FTRSB0aGlzIGlzIGEgbG9uZyBvcGFxdWUgdG9rZW4gb2YgYSBjbHVzdGVy"
    head, tail = value[: kept[0]], value[len(value) - kept[1] :]
    hidden = Redactor([value]).text(f"data = 'x {head}...{tail} y'")
    assert HIDDEN in hidden
    assert not head or head not in hidden
    assert not tail or tail not in hidden
    assert hidden.startswith("data = 'x ")
    assert hidden.endswith(" y'")


def test_what_is_learnt_later() -> None:
    redactor = Redactor()
    assert redactor.text("opaque-value-1") == "opaque-value-1"
    redactor.learn(["opaque-value-1"])
    redactor.learn(["opaque-value-2"])
    assert redactor.text("opaque-value-1 opaque-value-2") == f"{HIDDEN} {HIDDEN}"


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("K8SNET_SSH_PASSPHRASE", True),
        ("--client-secret", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("client-key-data", True),
        ("K8SNET_IMAGE_PULL_SECRET", False),
        ("token-ttl", False),
        ("key", False),
        ("keys", False),
        ("monkey", False),
        ("tokens", False),
        ("sshKeyFile", False),
    ],
)
def test_names(key: str, secret: bool) -> None:
    assert is_secret(key) is secret


def test_environment() -> None:
    environment = {
        "K8SNET_SSH_PASSPHRASE": "/looks/like/a/path",
        "CI_TOKEN": "abc123xyz",
        "WEB_IDENTITY_TOKEN": "/var/run/token",
        "HOME": "/root",
        "K8SNET_LEVEL": "read",
    }
    assert secrets_of(environment) == ["/looks/like/a/path", "abc123xyz"]


def test_recordings_of_real_runs_stay_as_they_are() -> None:
    redactor = Redactor(["an-opaque-token-of-a-cluster"])
    files = sorted((Path(__file__).parents[2] / "recordings").rglob("*.json"))
    assert files
    for file in files:
        text = file.read_text()
        assert redactor.clean(text)
        assert redactor.json(json.loads(text)) == json.loads(text)
