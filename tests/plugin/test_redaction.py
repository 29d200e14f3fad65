"""Secrets are planted wherever a run may come upon them, and everything it leaves is searched for them."""

from __future__ import annotations

import base64
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.plugin.bench import Bench, Ran
from tests.plugin.cluster import Cluster
from tests.unit.fakeapi import FakeApiServer, fake_api, status, write_kubeconfig

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SSH_KEY = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()

#: By the place they are planted in. What has no name that gives it away is known from kubeconfig or environment.
PLANTED = {
    "kubeconfig-token": "planted0kubeconfig0token0q7x",
    "environment": "planted0environment0value",
    "passphrase": "planted0ssh0passphrase",
    "secret": "planted0of0a0secret",
    "config-map": "planted0of0a0configmap",
    "command-line": "planted0of0a0command0line",
    "url": "planted0of0a0url",
    "ssh-key": SSH_KEY.splitlines()[1],
    "event": "planted0of0an0event",
    "annotation": "planted0of0an0annotation",
    "proxy": "planted0of0a0proxy0url",
}
EVERYTHING = (
    *("--showlocals", "-vv", "-rA", "--log-level=DEBUG", "--log-file=log.txt", "--log-cli-level=DEBUG", "-o", "junit_logging=all"),
    "--k8snet-save-bundle=bundle.tar.zst",
)
WAYS = ("-n2", "-pno:xdist")


def search(bench: Bench, ran: Ran, *, planted: dict[str, str] | None = None) -> None:
    """Look for every secret in what was printed and in every file that the run has left, and in those within its bundle."""
    ours = {"conftest.py", "test_own.py", "config", "objects.txt"}
    files = [path for path in bench.path.rglob("*") if path.is_file() and path.name not in ours and path.suffix != ".pyc"]
    assert bench.path / "junit.xml" in files
    texts = {str(path.relative_to(bench.path)): path.read_bytes().decode("utf-8", "replace") for path in files} | {"printed": ran.out}
    texts |= in_bundle(bench.path / "bundle.tar.zst")
    for place, secret in (planted or PLANTED).items():
        encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
        found = [name for name, text in texts.items() if secret in text or encoded in text]
        assert not found, f"{place} is in {found}"
        # Of what pytest cuts in the middle, the ends.
        cut = [name for name, text in texts.items() if f"{secret[:12]}..." in text or f"...{secret[-12:]}" in text]
        assert not cut, f"an end of {place} is in {cut}"


def in_bundle(path: Path) -> dict[str, str]:
    """Return the files in a bundle, and what the archive itself says of them; a run that recorded nothing has left none."""
    if not path.exists():
        return {}
    with zstd.open(path, "rb") as stream:
        data = stream.read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {item.name: file.read() for item in tar if (file := tar.extractfile(item)) is not None}
    assert "run.json" in members
    return {f"bundle: {name}": text.decode("utf-8", "replace") for name, text in (members | {"": data}).items()}


LEAKY = """
import logging
import os

MESSAGE = (
    "Authorization: Bearer planted0kubeconfig0token0q7x; --token=planted0of0a0command0line http://me:planted0of0a0url@proxy:3128 "
    "password: planted0of0an0event1"
)
KEY = {key!r}


@pytest.fixture
def words(k8snet_node):
    headers = {{"authorization": "Bearer planted0kubeconfig0token0q7x"}}
    passphrase = os.environ["K8SNET_SSH_PASSPHRASE"]
    key = KEY
    logging.getLogger("x").debug("headers %s, %s", headers, {{"password": "planted0of0a0secret"}})
    try:
        raise OSError(MESSAGE)
    except OSError:
        logging.getLogger("x").exception("got %s", os.environ["SOME_TOKEN"])
    print(MESSAGE, passphrase, key)
    return headers


@check("ACME-PASS-1")
def test_pass(words): pass

@check("ACME-FAIL-1")
def test_fail(words):
    value = "planted0environment0value"
    words_of_it = "x" * 200 + " planted0environment0value " + "y" * 200
    assert words == {{"authorization": "Bearer planted0ssh0passphrase"}}, MESSAGE

@check("ACME-ERROR-1")
def test_error(words): raise MeasurementError(MESSAGE + KEY)

@check("ACME-BUG-1")
def test_bug(words): raise ValueError(MESSAGE + KEY)

@check("ACME-TEARDOWN-1")
def test_teardown(request, k8snet_node):
    def end():
        password = "planted0of0a0secret"
        raise OSError(MESSAGE)
    request.addfinalizer(end)

@check("ACME-VERDICT-1")
def test_verdict(k8snet_node, k8snet_verdict):
    judgement = Judgement(want="password=planted0of0a0secret (x)", evidence={{"env": {{"API_TOKEN": "planted0environment0value"}}}})
    judgement.check(False, MESSAGE, command="curl --password planted0of0a0command0line", measured=MESSAGE)
    k8snet_verdict(judgement)

@check("ACME-FACTS-1")
def test_facts(k8snet_node):
    assert k8snet_node.facts.kernel
    k8snet_node.run(["cat", "/etc/x"])

@check("ACME-PROPERTY-1")
def test_property(record_property):
    record_property("token", "planted0of0a0secret")
    record_property("said", MESSAGE)

def test_of_nobody():
    api_key = "planted0of0a0secret"
    assert not MESSAGE
"""
FAKE = """
import logging
from dataclasses import replace
logging.getLogger("client").debug("answer: %s", '{"data": {"password": "planted0of0a0secret"}}')
fake.fail_probe("node-2", "node-2: event: Failed to pull image: password=planted0of0an0event")
fake.answer("node-3", "run", AccessError("node-3: ssh: Permission denied, password: planted0of0a0secret1"))
fake.change_facts("node-1", lambda facts: facts["kube_proxy"].update(
    processes=["pid 7: kube-proxy --config=/x --token=planted0of0a0command0line --master=https://a:planted0of0a0url@b"],
    configz={"kubeproxy.config.k8s.io": {"clientConnection": {"token": "planted0of0a0configmap"}}}))
fake.change_facts("node-1", lambda facts: facts["errors"].update(existing_pods="exit status 1: token: planted0of0a0command0line1"))
fake.not_ready("node-4", "kubelet: cannot log in with password=planted0of0an0event")
fake.claims["encapsulation"] = Claim("none", "ConfigMap x password=planted0of0a0configmap")
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8SNET_SSH_PASSPHRASE", PLANTED["passphrase"])
    monkeypatch.setenv("SOME_TOKEN", PLANTED["environment"])


@pytest.mark.parametrize("way", WAYS)
def test_red_and_failing_checks(bench: Bench, way: str) -> None:
    bench.cluster(FAKE, nodes=("node-1", "node-2", "node-3", "node-4"))
    bench.checks(LEAKY.format(key=SSH_KEY))
    ran = bench.own(way, *EVERYTHING, own_process=True)
    assert ran.status == 1
    search(bench, ran)
    # What is searched is worth it: the values are missing from places that are there.
    assert "[redacted]" in in_bundle(bench.path / "bundle.tar.zst")["bundle: facts/node-1.json"]
    assert ran.verdicts["ACME-PASS-1[node-1]"] == "pass"
    assert ran.verdicts["ACME-FAIL-1[node-1]"] == "fail"
    assert ran.verdicts["ACME-BUG-1[node-1]"] == "error"
    for words in (
        "Authorization: Bearer [redacted]; --token=[redacted] http://[redacted]@proxy:3128 password: [redacted]",
        "words      = {'authorization': 'Bearer [redacted]'}",
        "value      = '[redacted]'",
    ):
        assert words in ran.out
    assert "headers {'authorization': 'Bearer [redacted]'}" in (bench.path / "log.txt").read_text() or way == "-n2"
    processes = bench.record("facts/node-1.json")["values"]["kube_proxy"]["processes"]
    assert processes == ["pid 7: kube-proxy --config=/x --token=[redacted] --master=https://[redacted]@b"]
    assert "password=[redacted]" in bench.record("facts/node-2.json")["reason"]


@pytest.mark.parametrize("way", WAYS)
def test_files_that_cannot_be_collected(bench: Bench, way: str) -> None:
    bench.checks("password = 'planted0of0a0secret'\nraise OSError('password=planted0of0a0secret')")
    ran = bench.own(way, *EVERYTHING, own_process=True)
    assert ran.status != 0
    assert "[redacted]" in ran.out
    search(bench, ran)


@pytest.mark.parametrize("way", WAYS)
def test_crashes(bench: Bench, way: str) -> None:
    """An internal error of pytest shows variables as well."""
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    with (bench.path / "conftest.py").open("a") as conftest:
        conftest.write(
            "\n\ndef pytest_runtest_logstart(nodeid):\n    token = 'planted0environment0value'\n"
            "    raise ValueError('token=planted0of0a0command0line')\n"
        )
    ran = bench.own(way, *EVERYTHING, own_process=True)
    assert ran.status != 0
    assert "[redacted]" in ran.out
    search(bench, ran)


def test_interrupted_with_everything_shown(bench: Bench) -> None:
    bench.checks("""
        @check("ACME-1")
        def test_it(k8snet_node):
            words("Bearer planted0kubeconfig0token0q7x", "planted0environment0value")

        def words(header, value):
            raise KeyboardInterrupt(f"password={value}")
    """)
    ran = bench.own(*EVERYTHING, "--full-trace", own_process=True)
    assert ran.status == 2
    assert "header = 'Bearer [redacted]'" in ran.out
    search(bench, ran)


# ---- a real API server


def cluster(server: FakeApiServer) -> None:
    """Let the server have a node and the objects that are read for claims."""
    node = {
        "metadata": {"name": "node-1", "annotations": {"x": f"password={PLANTED['annotation']}"}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "nodeInfo": {"operatingSystem": "linux"},
        },
    }
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    server.items("/api/v1/nodes", node)
    server.items("/api/v1/namespaces/kube-system/pods")
    proxy = {
        "metadata": {"name": "kube-proxy", "namespace": "kube-system", "annotations": {"last": f"token={PLANTED['annotation']}"}},
        "spec": {"template": {"spec": {"containers": [{"image": "kube-proxy", "args": [f"--token={PLANTED['command-line']}"]}]}}},
        "status": {"desiredNumberScheduled": 1},
    }
    server.items("/apis/apps/v1/daemonsets", proxy)
    server.routes["GET", "/api/v1/namespaces/kube-system/configmaps/kube-proxy"] = (
        200,
        {"data": {"config.conf": f"mode: ipvs\nkey: {PLANTED['config-map']}\nclientConnection:\n  token: {PLANTED['config-map']}\n"}},
    )
    server.routes["POST", "/api/v1/namespaces"] = (201, {})
    server.routes["GET", "/api/v1/namespaces/x/serviceaccounts/default"] = (200, {})


def run(bench: Bench, server: FakeApiServer, *arguments: str) -> Ran:
    path = write_kubeconfig(bench.path / "config", server.url, {"token": PLANTED["kubeconfig-token"]})
    return bench.own(f"--k8snet-kubeconfig={path}", *arguments, *EVERYTHING, fake=False, own_process=True)


@pytest.mark.parametrize("way", WAYS)
def test_api_server_that_quotes_secrets(bench: Bench, way: str) -> None:
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): assert k8snet_node.facts")
    with fake_api() as server:
        cluster(server)
        said = f"got Bearer {PLANTED['kubeconfig-token']}, env DB_PASSWORD={PLANTED['secret']} of {SSH_KEY}"
        refused = status(403, "Forbidden", f"admission denied: {said}")
        server.routes["POST", "/api/v1/namespaces"] = refused
        server.routes["POST", "/apis/scheduling.k8s.io/v1/priorityclasses"] = refused
        ran = run(bench, server, way)
    assert ran.status == 1
    assert "admission denied: got Bearer [redacted], env DB_PASSWORD=[redacted]" in ran.out
    search(bench, ran)


@pytest.mark.parametrize("way", WAYS)
def test_exec_that_is_refused_with_secrets(bench: Bench, way: str) -> None:
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): assert k8snet_node.facts")
    with fake_api() as server:
        refused = status(403, "Forbidden", f"dial: proxy http://u:{PLANTED['url']}@p: {PLANTED['kubeconfig-token']}")
        Cluster(server, 1, exec_answer=refused)
        ran = run(bench, server, way)
    assert ran.status == 1
    assert "exec refused with HTTP 403: dial: proxy http://[redacted]@p: [redacted]" in ran.out
    search(bench, ran)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "answer",
    [
        (401, f"<html><title>password={PLANTED['secret']}</title>".encode()),
        (500, f"panic: --token={PLANTED['command-line']} {PLANTED['kubeconfig-token']}".encode()),
        (200, f"token: {PLANTED['kubeconfig-token']}".encode()),
    ],
    ids=["page", "text", "no-json"],
)
def test_answers_that_are_none(bench: Bench, way: str, answer: tuple[int, bytes]) -> None:
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    with fake_api() as server:
        server.routes["GET", "/version"] = answer
        ran = run(bench, server, way)
    assert ran.status == 1
    (bench.path / "junit.xml").touch()  # pytest.exit before the first test leaves none
    search(bench, ran)


def test_config_map_that_is_no_yaml(bench: Bench) -> None:
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    with fake_api() as server:
        cluster(server)
        server.routes["GET", "/api/v1/namespaces/kube-system/configmaps/kube-proxy"] = (
            200,
            {"data": {"config.conf": f"mode: [ipvs\n{PLANTED['config-map']}: {{\n"}},
        )
        ran = run(bench, server)
    assert ran.status == 1
    assert "k8snet: ConfigMap kube-system/kube-proxy config.conf: not YAML (line " in ran.out
    (bench.path / "junit.xml").touch()
    search(bench, ran)


def test_kubeconfig_with_every_kind_of_secret(bench: Bench) -> None:
    """Nothing of a kubeconfig is told when its cluster does not answer, its proxy refuses or its plugin fails."""
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", f"echo cannot log in with $MY_TOKEN, --password={PLANTED['command-line']} >&2; exit 1"],
        "env": [{"name": "MY_TOKEN", "value": PLANTED["secret"]}],
    }
    users: dict[str, dict[str, Any]] = {
        "token": {"token": PLANTED["kubeconfig-token"]},
        "password": {"username": "me", "password": PLANTED["kubeconfig-token"]},
        "key": {"client-key-data": base64.b64encode(SSH_KEY.encode()).decode(), "client-certificate-data": "bm9uZQ=="},
        "plugin": {"exec": plugin},
        "provider": {"auth-provider": {"name": "oidc", "config": {"client-secret": PLANTED["kubeconfig-token"]}}},
    }
    for name, user in users.items():
        bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
        path = write_kubeconfig(bench.path / "config", "http://127.0.0.1:9", user)
        data = yaml.safe_load(path.read_text())
        data["clusters"][0]["cluster"]["proxy-url"] = f"http://me:{PLANTED['proxy']}@127.0.0.1:9"
        path.write_text(yaml.safe_dump(data))
        ran = bench.own(f"--k8snet-kubeconfig={path}", *EVERYTHING, fake=False, own_process=True)
        assert ran.status in (1, 4), name
        (bench.path / "junit.xml").touch()
        search(bench, ran)
        if name == "plugin":
            assert "failed: exit status 1: cannot log in with [redacted], --password=[redacted]" in ran.out


PROCESSES = """
import os
from pathlib import Path

def parent(pid):
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0

def descends(pid, root):
    while pid > 1 and pid != root:
        pid = parent(pid)
    return pid == root

@check("ACME-1")
def test_it(k8snet_node, request):
    assert k8snet_node.run(["true"]).exit_status == 0
    root = os.getppid() if hasattr(request.config, "workerinput") else os.getpid()
    ours = [path for path in Path("/proc").glob("[0-9]*/cmdline") if descends(int(path.parent.name), root)]
    assert len(ours) == NUMBER
    assert [path for path in ours if b"planted" in path.read_bytes()] == []
"""


@pytest.mark.parametrize(("way", "processes"), [("-n2", 3), ("-pno:xdist", 1)])
def test_command_lines_of_the_processes_of_a_run(bench: Bench, monkeypatch: pytest.MonkeyPatch, way: str, processes: int) -> None:
    """What is in the process list everybody on the machine can read."""
    bench.checks(PROCESSES.replace("NUMBER", str(processes)))
    monkeypatch.setenv("PLUGIN_TOKEN", PLANTED["kubeconfig-token"])
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "$PLUGIN_TOKEN"}}
    script = f"echo '{json.dumps(credential)}' | sed \"s/.PLUGIN_TOKEN/$PLUGIN_TOKEN/\""
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]}}
    with fake_api() as server:
        Cluster(server, 2)
        path = write_kubeconfig(bench.path / "config", server.url, user)
        ran = bench.own(f"--k8snet-kubeconfig={path}", way, *EVERYTHING, fake=False, own_process=True)
    assert ran.status == 0, ran.out
    search(bench, ran)


def test_settings_with_passwords_in_them(bench: Bench) -> None:
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    refused = bench.own(f"--k8snet-image=me:{PLANTED['url']}@registry/probe:1")
    assert refused.status == 4
    assert PLANTED["url"] not in refused.out
    ran = bench.own(f"--k8snet-context=https://me:{PLANTED['url']}@x")
    assert ran.status == 0
    assert "context https://[redacted]@x (command line)" in ran.out
    assert bench.record("run.json")["settings"]["context"]["value"] == "https://[redacted]@x"


def test_messages_of_other_sessions_stay_as_they_are(bench: Bench) -> None:
    """Without a cluster nothing of pytest's is touched."""
    bench.write("test_plain.py", "def test_it(): assert not 'password=hunter2'\n")
    assert "password=hunter2" in bench.run(fake=False).out


def test_records_that_hide_nothing_stay_as_they_are(bench: Bench) -> None:
    bench.checks("""
        import logging

        @check("ACME-1")
        def test_it(caplog, k8snet_run):
            logging.getLogger("x").warning("mtu %d", 1500)
            assert caplog.records[0].args == (1500,)
            logging.getLogger("x").warning("not enough arguments %d %d", 1)
    """)
    ran = bench.own()
    assert "ACME-1[cluster]" in ran.verdicts


def test_every_file_of_the_record_goes_through_the_same_hands(bench: Bench, tmp_path: Path) -> None:
    from pytest_k8snet.record.redact import Redactor
    from pytest_k8snet.record.store import RunFolder

    folder = RunFolder.create(tmp_path / "run", Redactor([PLANTED["kubeconfig-token"]]))
    folder.write_json("x.json", {"a": [f"got {PLANTED['kubeconfig-token']}"], "password": "x1", "mtu": 1500})
    assert json.loads((tmp_path / "run/x.json").read_text()) == {"a": ["got [redacted]"], "password": "[redacted]", "mtu": 1500}
