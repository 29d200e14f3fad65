"""The shell collector against the agent: what both read of the machine that the tests run on has to be the same."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.client import AGENT_ARGV, agent_source
from pytest_k8snet.agent import agent, collected
from pytest_k8snet.agent.agent import Failed
from pytest_k8snet.agent.collected import Collected
from pytest_k8snet.measure.facts import HOST_KEYS, UPLINK_KEYS
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import Bgp, NodeFacts
from tests.unit.agent.test_agent import KEPT, METRICS

MARK = "k8snet-0123"
ROUNDS = 5
CONFIGZ = {"kubeproxy.config.k8s.io": {"mode": "ipvs"}}
SCRIPT = Path(collected.__file__).with_name("collect.sh")
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["sh"], ["busybox", "ash"]) if shutil.which(shell[0])]
PARAMS: Mapping[str, Any] = {
    "role": "host",
    "sysctls": [*HOST_KEYS, *UPLINK_KEYS, "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "no.such.key"],
    "uplink_ip": "127.0.0.1",
    "peers": {"node-2": ["127.0.0.9", True], "node-3": ["not-an-address", False]},
    "existing_pods": 5,
}
needs_ip = pytest.mark.skipif(not shutil.which("ip"), reason="no ip here")


def run_script(what: str, params: Mapping[str, Any] = PARAMS, *, shell: list[str] = SHELLS[0], path: Path | None = None) -> Collected:
    """Run the collector here; `path` is the only folder of programs that it finds."""
    text = collected.script(what, params, MARK)
    if path is not None:
        text = text.replace(b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={path}".encode())
    ran = subprocess.run([*shell, "-s"], input=text, capture_output=True, timeout=60, check=True)
    return Collected(ran.stdout, ran.stderr, MARK)


def by_agent(op: str) -> dict[str, Any]:
    program = agent_source()
    request = json.dumps({"id": 1, "op": op, "params": PARAMS}).encode() + b"\n"
    ran = subprocess.run(
        [sys.executable, *AGENT_ARGV[1:]], input=b"%08d" % len(program) + program + request, capture_output=True, timeout=60, check=True
    )
    answer: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])["result"]
    return answer


@pytest.fixture
def no_other_kubelet() -> Iterator[None]:
    """Keep tests that read this machine's kubelet or kube-proxy, or play one, from each other: several may run at a time."""
    with (Path(tempfile.gettempdir()) / f"k8snet-tests-kubelet-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_every_shell_can_read_it(shell: list[str]) -> None:
    subprocess.run([*shell, "-n", SCRIPT], check=True)
    assert set(run_script("ipvs", shell=shell)) >= {"kube-ipvs0", "tool ip"}


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck here")
def test_shellcheck() -> None:
    subprocess.run(["shellcheck", SCRIPT], check=True)


@needs_ip
@pytest.mark.usefixtures("no_other_kubelet")
@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell[0] != "busybox"], ids=" ".join)
def test_facts_are_the_agent_s(shell: list[str]) -> None:
    """What the agent reads before and after is what has not changed meanwhile; what has is read again, until it is compared."""
    unlike: dict[str, tuple[Any, Any]] = {}
    to_compare: set[str] | None = None
    after = by_agent("facts")
    for _ in range(ROUNDS):
        wanted, found = after, collected.facts(run_script("facts", shell=shell), PARAMS)
        after = by_agent("facts")
        if to_compare is None:
            to_compare = comparable(wanted, found)
        steady = {name for name in to_compare if lasting(name, after[name]) == lasting(name, wanted[name])}
        unlike = {name: (found[name], wanted[name]) for name in steady if lasting(name, found[name]) != lasting(name, wanted[name])}
        to_compare -= steady - unlike.keys()
        if not to_compare:
            break
    assert not to_compare, unlike or "changed with every reading"


def comparable(wanted: dict[str, Any], found: dict[str, Any]) -> set[str]:
    """Look at what is not the same by its nature, and return what else there is."""
    assert found.keys() == wanted.keys()
    assert (found["agent"], wanted["agent"]) == ("shell", "python")
    # The agent asks for the node's root, which is not this one's in a container; and says so of a tool that is not there.
    apart = {"agent", "tools", "errors", "persisted", "nft", "iptables"}
    if not shutil.which("nft"):
        assert (wanted["nft"]["tables"], found["nft"]["tables"]) == ([], [])
    else:
        apart -= {"nft", "iptables"}
    apart |= {"activity"}  # which goes on: the same kinds of counters are there
    assert shape(found["activity"]) == shape(wanted["activity"])
    if "clock" in found["errors"]:
        apart |= {"clock"}
    assert found["peer_routes"][0]["dev"] == "lo"
    assert found["peer_routes"][1]["error"]
    assert found["host"]["sysctls"]["no.such.key"] is None
    NodeFacts.from_document(document(found))
    return wanted.keys() - apart


def lasting(name: str, value: Any) -> Any:
    """Return a fact without what counts on."""
    return without(value, {"conntrack": {"count"}, "clock": {"max_error_us"}}.get(name, set()))


@needs_ip
@pytest.mark.usefixtures("no_other_kubelet")
@pytest.mark.skipif(os.getuid() != 0, reason="another root takes root")
@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell[0] != "busybox"], ids=" ".join)
def test_a_kubelet_is_the_agent_s(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "kubelet.yaml").write_text("clusterDNS: [10.96.0.10]\nstaticPodURLHeader: {Authorization: [secret]}\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/10-dns.conf").write_text(f'{{"resolvConf": "{tmp_path}/resolv.conf", "maxPods": 20}}')
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    flags = [f"--config={tmp_path}/kubelet.yaml", "--config-dir", f"{tmp_path}/more", "--cluster-domain=corp", "--token=secret"]
    program = ["kubelet", "-c", "import time; print(flush=True); time.sleep(60)", *flags]
    with subprocess.Popen(program, executable=sys.executable, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            found, wanted = collected.facts(run_script("facts", shell=shell), PARAMS)["kubelet"], by_agent("facts")["kubelet"]
        finally:
            process.kill()
    assert found == wanted
    assert wanted == {
        "pid": process.pid,
        "flags": {"clusterDomain": "corp"},
        "files": [
            {"path": f"{tmp_path}/kubelet.yaml", "text": "clusterDNS: [10.96.0.10]\n"},
            {"path": f"{tmp_path}/more/10-dns.conf", "text": f'resolvConf: "{tmp_path}/resolv.conf"\n'},
        ],
        "resolv_path": f"{tmp_path}/resolv.conf",
        "resolv": {"nameservers": ["192.0.2.1"], "search": [], "ndots": 1},
    }


@needs_ip
@pytest.mark.usefixtures("no_other_kubelet")
@pytest.mark.skipif(os.getuid() != 0, reason="another root takes root")
@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell[0] != "busybox"], ids=" ".join)
def test_a_kubelet_of_microk8s_is_the_agent_s(shell: list[str], tmp_path: Path) -> None:
    """In one process with kube-proxy, told by a file of arguments in which the snap's folders have names."""
    data = tmp_path / "8612"
    (data / "args").mkdir(parents=True)
    (data / "kubelet_config").write_text("clusterDomain: corp\n")
    (tmp_path / "common").mkdir()
    (tmp_path / "common/resolv.conf").write_text("nameserver 192.0.2.1\n")
    lines = (
        "# --cluster-dns=192.0.2.9",
        "--kubeconfig=${SNAP_DATA}/secret",
        '--eviction-hard="memory.available<100Mi"',
        "--cluster-dns='10.152.183.10'",
        "--resolv-conf=${SNAP_COMMON}/resolv.conf --config $SNAP_DATA/kubelet_config",
    )
    (data / "args/kubelet").write_text("\n".join(lines) + "\n")
    program = ["/snap/microk8s/8612/kubelite", "-c", "import time; print(flush=True); time.sleep(60)"]
    program += ["--proxy-args-file=/nowhere", f"--kubelet-args-file={data}/args/kubelet"]
    with subprocess.Popen(program, executable=sys.executable, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            script = run_script("facts", shell=shell)
            found, wanted = collected.facts(script, PARAMS)["kubelet"], by_agent("facts")["kubelet"]
        finally:
            process.kill()
    kept = script.output(f"kubelet arguments {data}/args/kubelet", "grep")
    assert "secret" not in kept
    assert found == wanted
    assert wanted == {
        "pid": process.pid,
        "flags": {"clusterDNS": "10.152.183.10", "resolvConf": f"{tmp_path}/common/resolv.conf"},
        "files": [{"path": f"{data}/kubelet_config", "text": "clusterDomain: corp\n"}],
        "resolv_path": f"{tmp_path}/common/resolv.conf",
        "resolv": {"nameservers": ["192.0.2.1"], "search": [], "ndots": 1},
    }


@needs_ip
@pytest.mark.usefixtures("no_other_kubelet")
def test_ipvs_is_the_agent_s() -> None:
    assert collected.ipvs(run_script("ipvs"), PARAMS) == by_agent("ipvs")


@needs_ip
def test_activity_is_the_agent_s() -> None:
    assert shape(collected.activity(run_script("activity"), PARAMS)) == shape(by_agent("activity"))


def shape(activity: dict[str, Any]) -> dict[str, Any]:
    """Return which counters there are, and the kernel log apart, which not everybody may read."""
    return {name: [*value] if isinstance(value, dict) else None for name, value in activity.items()}


def without(value: Any, keys: set[str]) -> Any:
    return {key: item for key, item in value.items() if key not in keys} if isinstance(value, dict) else value


def document(values: Mapping[str, Any]) -> Document:
    more = {"pod": None, "pod_error": None, "pod_absent": "no pods"}
    return Document(kind="facts", subject="node-1", started="", duration_s=0.0, method="", values={**values, **more})


# ---- with other tools than this machine's


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a folder with the standard tools, and a place for others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "grep", "ls", "cat", "sed", "tr", "sort", "head", "ip", "tc", "dmesg"):
        if (found := shutil.which(name)) is not None:
            (folder / name).symlink_to(found)
    return folder


def put(folder: Path, name: str, body: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@needs_ip
def test_tools_are_recorded_with_their_paths(programs: Path) -> None:
    put(programs, "curl", "exit 7")
    facts = NodeFacts.from_document(document(collected.facts(run_script("facts", path=programs), PARAMS)))
    there = {name: tool.path for name, tool in facts.tools.items() if tool is not None}
    assert there == {"ip": f"{programs}/ip", "tc": f"{programs}/tc", "curl": f"{programs}/curl"}
    assert {tool.origin for tool in facts.tools.values() if tool} == {"node"}
    assert facts.tools.keys() == {*collected.TOOLS}


def test_ip_that_gives_no_json(programs: Path) -> None:
    """Busybox's. Without devices and routes nothing could be judged: that is an error, never a node without devices."""
    put(programs, "ip", "echo 'ip: unrecognized option: j' >&2\nexit 1")
    with pytest.raises(Failed, match=r"ip -j addr: .*unrecognized option: j"):
        collected.facts(run_script("facts", path=programs), PARAMS)
    with pytest.raises(Failed, match=r"unrecognized option: j \(the ip of the node has to be that of iproute2, with -j\)"):
        collected.facts(run_script("facts", {**PARAMS, "uplink_ip": None}, path=programs), {**PARAMS, "uplink_ip": None})


def test_ip_that_is_missing(programs: Path) -> None:
    (programs / "ip").unlink()
    with pytest.raises(Failed, match="ip: not on the node"):
        collected.facts(run_script("facts", path=programs), PARAMS)


@needs_ip
def test_parts_that_cannot_be_read_are_told(programs: Path) -> None:
    put(programs, "tc", "echo 'no qdiscs today' >&2\nexit 2")
    put(programs, "adjtimex", "echo '    maxerror:     500'; echo '       status: 8257'")
    facts = collected.facts(run_script("facts", path=programs), PARAMS)
    assert facts["errors"] == {"qdiscs": "tc -j qdisc show: exit status 2: no qdiscs today"}
    (programs / "tc").unlink()
    facts = collected.facts(run_script("facts", path=programs), PARAMS)
    assert facts["errors"] == {"qdiscs": "tc: not on the node"}
    assert facts["clock"] == {"problems": ["unsynchronised"], "max_error_us": 500}
    put(programs, "adjtimex", "echo nothing to tell")
    facts = collected.facts(run_script("facts", path=programs), PARAMS)
    assert facts["errors"]["clock"] == "adjtimex: nothing to tell"
    (programs / "adjtimex").unlink()
    facts = collected.facts(run_script("facts", path=programs), PARAMS)
    assert facts["errors"]["clock"] == "adjtimex: exit status 1: no busybox and no adjtimex on the node"


LOG = "[    0.000000] Linux\n[   12.5] nf_conntrack: nf_conntrack: table full, dropping packet\n[   13.25] eth0: up\n continued"


@needs_ip
@pytest.mark.parametrize(
    ("dmesg", "log"),
    [
        (f"cat <<'END'\n{LOG}\nEND", {"last_s": 13.25, "table_full": 1, "table_full_s": [12.5], "error": None}),
        ("exit 0", {"last_s": 0.0, "table_full": 0, "table_full_s": [], "error": None}),
        ("echo Linux", {"last_s": 0.0, "table_full": 0, "table_full_s": [], "error": "dmesg: its lines have no times"}),
        ("echo 'dmesg: no' >&2; exit 1", {"last_s": 0.0, "table_full": 0, "table_full_s": [], "error": "dmesg: dmesg: no"}),
    ],
    ids=["full", "empty", "no-times", "not-allowed"],
)
def test_kernel_log(programs: Path, dmesg: str, log: dict[str, Any]) -> None:
    put(programs, "dmesg", dmesg)
    assert collected.activity(run_script("activity", path=programs), PARAMS)["log"] == log


def test_values_in_force_of_what_files_assign() -> None:
    found = sections(running=("/proc/sys/net/ipv4/tcp_rmem:4096\t1 2\n/proc/sys/net/ipv4/conf/eth0.1/rp_filter:1\n", 0, ""))
    persisted = [{"key": key} for key in ("net.ipv4.tcp_rmem", "vm.swappiness", "vm.overcommit_memory")]
    assert collected._running(found, persisted, {"vm.swappiness": "60"}) == {"net.ipv4.tcp_rmem": "4096 1 2", "vm.swappiness": "60"}


TABLES = (
    '{"nftables": [{"metainfo": {}}, {"table": {"family": "ip", "name": "nat", "handle": 1}}, {"table": {"family": "inet", "name": "x"}}]}'
)
RULES = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-X - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT"
NATIVE = "# Table `nat' is incompatible, use 'nft' tool."
CHAINS = '{"nftables": [{"chain": {"family": "ip", "table": "nat", "name": "KUBE-SVC-X", "handle": 1}}]}'


@needs_ip
@pytest.mark.skipif(not agent.has_nf_tables(), reason="the kernel has no nf_tables")
@pytest.mark.parametrize(
    ("rules", "backend"),
    [
        (RULES, {"tables": ["nat"], "chains": ["KUBE-SERVICES", "KUBE-SVC-X"], "reachable": ["KUBE-SERVICES"], "error": None}),
        (
            NATIVE,
            {
                "tables": ["nat"],
                "chains": [],
                "reachable": [],
                "error": "iptables-nft-save: the table nat has KUBE chains, and others that iptables cannot read",
            },
        ),
    ],
    ids=["kube-proxy's", "nft's-own"],
)
def test_nft_back_end(programs: Path, rules: str, backend: dict[str, Any]) -> None:
    put(programs, "nft", f"case $3 in tables) echo '{TABLES}';; chains) echo '{CHAINS}';; esac")
    put(programs, "iptables-nft-save", f"cat <<'END'\n{rules}\nEND")
    facts = collected.facts(run_script("facts", path=programs), PARAMS)
    assert facts["nft"] == {"tables": ["ip nat", "inet x"], "error": None}
    assert facts["iptables"]["nft"] == {**backend, "more_chains": {}, "more_reachable": {}}


@pytest.fixture
def web() -> Iterator[int]:
    """Give the port of a server that answers like kube-proxy."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages = {"/proxyMode": b"ipvs", "/metrics": METRICS.encode()}
            body = pages.get(self.path, b"no such page")
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("client", [("curl",), ("bash", "timeout"), ("nc",), ("wget",)], ids=lambda names: names[0])
def test_every_client_gets_the_mode(programs: Path, web: int, client: tuple[str, ...]) -> None:
    if not all(map(shutil.which, client)):
        pytest.skip(f"no {client[0]} here")
    for name in client:
        (programs / name).symlink_to(shutil.which(name) or "")
    text = (
        SCRIPT.read_text()
        .replace("10249", str(web))
        .replace("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={programs}")
    )

    def ask(path: str, function: str = "http", port: object = "") -> tuple[str, int, str]:
        ran = subprocess.run(
            [*SHELLS[0], "-c", text.replace("main </dev/null", f"{function} 127.0.0.1 {path} {port}")],
            capture_output=True,
            timeout=30,
            check=False,
        )
        return ran.stdout.decode(), ran.returncode, ran.stderr.decode()

    found = sections(**{"http__127.0.0.1__/proxyMode": ask("/proxyMode"), "http__127.0.0.1__/configz": ask("/configz")})
    read = collected.ipvs(found, {})
    assert (read["mode"], read["configz"]) == ("ipvs", None)
    syncs = ask("", "sync_metrics")
    assert "go_goroutines" not in syncs[0]
    get = collected._http(sections(**{"http__127.0.0.1__/metrics": syncs}))
    assert agent.kube_proxy_metrics({"address": "127.0.0.1", "port": web}, get) == {"metrics": KEPT, "metrics_error": None}
    for port, told in ((web, 200), (1, None)):  # one on which something listens, and one on which nothing does
        get = collected._http(sections(**{"http__127.0.0.1__/livez": ask("/proxyMode", port=port)}))
        assert agent.kube_proxy_livez({"address": "127.0.0.1"}, get) == told
    (programs / client[0]).unlink()
    assert ask("/proxyMode") == ("", 127, "no curl, bash, nc or wget on the node\n")


# ---- pure


def sections(**given: tuple[str, int, str]) -> Collected:
    """Return what the collector would have written: by name, with ``__`` for a blank, what was printed, status and stderr."""
    out, err = "", ""
    for name, (text, status, said) in given.items():
        title = name.replace("__", " ")
        out += f"\n{MARK} begin {title}\n{text}\n{MARK} end {status}\n"
        err += f"\n{MARK} begin {title}\n{said}"
    return Collected(f"{out}\n{MARK} done\n".encode(), err.encode(), MARK)


def test_output_that_ends_early_is_no_output() -> None:
    with pytest.raises(Failed, match="the shell collector broke off: Killed"):
        Collected(f"\n{MARK} begin network\n[]".encode(), b"Killed\n", MARK)


def test_marks_tell_outputs_apart() -> None:
    found = sections(one=("a\n\nb\n", 0, ""), two__x=("", 3, "bad\n"))
    assert found.output("one", "one") == "a\n\nb\n"
    with pytest.raises(Failed, match="two x -y: exit status 3: bad"):
        found.output("two x", "two x -y")
    with pytest.raises(Failed, match="three: not asked"):
        found.output("three", "three")


OK = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nipvs"


@pytest.mark.parametrize(
    ("answer", "mode"),
    [
        ((OK, 0, ""), ("ipvs", None, True)),
        (("HTTP/1.1 404 Not Found\r\n\r\nno", 0, ""), (None, "HTTP 404", True)),
        (("", 7, "curl: (7) Failed to connect"), (None, "connection refused", False)),
        (("", 1, "bash: connect: Connection refused"), (None, "connection refused", False)),
        (("", 1, ""), (None, "connection refused", False)),
        (("", 28, "curl: (28) timed out"), (None, "timed out", True)),
        (("", 124, ""), (None, "timed out", True)),
        (("", 52, "curl: (52) Empty reply from server"), (None, "curl: (52) empty reply from server", True)),
        (("", 127, "no curl, bash, nc or wget on the node"), (None, "no curl, bash, nc or wget on the node", True)),
    ],
)
def test_answers_of_kube_proxy_by_every_client(answer: tuple[str, int, str], mode: tuple[str | None, str | None, bool]) -> None:
    found = sections(
        **{"http__127.0.0.1__/proxyMode": answer, "http__127.0.0.1__/configz": (OK.replace("ipvs", json.dumps(CONFIGZ)), 0, "")}
    )
    read = collected.ipvs(found, {})
    assert (read["mode"], read["configz"]) == (mode[0], CONFIGZ if mode[0] else None)
    proxy = agent.kube_proxy_mode(None, collected._http(found))
    assert (proxy["mode"], proxy["mode_error"], proxy["listening"]) == mode


def test_processes_of_kube_proxy_in_the_node_s_own_network() -> None:
    listed = "\n".join(
        f"lrwxrwxrwx 1 root root 0 Nov 24 00:00 /proc/{pid}/ns/net -> net:[{space}]" for pid, space in (("812", 1), ("900", 2), ("self", 1))
    )
    command = "/usr/local/bin/kube-proxy\0--config=/x\0"
    found = sections(
        **{
            "namespaces": (listed, 0, ""),
            "/proc/812/cmdline": (command, 0, ""),
            "/proc/900/cmdline": (command, 0, ""),
            "/proc/901/cmdline": ("grep\0kube-proxy\0", 0, ""),
            "/proc/902/cmdline": ("", 1, "cat: /proc/902/cmdline: No such file or directory"),
        }
    )
    assert collected._kube_proxy_processes(found, listening=False) == ["pid 812: /usr/local/bin/kube-proxy --config=/x"]
    kubelite = sections(
        namespaces=(listed.replace("/812/", "/30/"), 0, ""), **{"/proc/30/cmdline": ("/snap/microk8s/8612/kubelite\0--x\0", 0, "")}
    )
    assert collected._kube_proxy_processes(kubelite, listening=True) == ["pid 30: /snap/microk8s/8612/kubelite"]
    assert collected._kube_proxy_processes(kubelite, listening=False) == []


LINK = '[{"ifname":"lo","mtu":65536,"flags":["UP"]},{"ifname":"eth0","mtu":1450,"flags":["UP"]}]'
ROUTE = '[{"dst":"default","gateway":"10.244.1.1","dev":"eth0"}]'
INSIDE = "lrwxrwxrwx 1 root root 0 Nov 24 00:00 /proc/self/ns/net -> net:[4026532]"
RUNNING = ("a/one 11 net:[4026532]\na/two 12 net:[4026533]\n", 0, "")
READ = {
    "pods": RUNNING,
    "inside__11": (INSIDE, 0, ""),
    "network__11": (f"{LINK}\n{ROUTE}\n", 0, ""),
    "routes6__11": ("[]", 0, ""),
    "sysctls__11": (
        "/proc/sys/net/ipv4/ip_forward:0\n/proc/sys/net/ipv4/tcp_congestion_control:bbr\n",
        2,
        "grep: /proc/sys/net/no: No such",
    ),
    "enter__11": ("", 0, ""),
}


def existing_pods(**changes: tuple[str, int, str]) -> list[dict[str, Any]]:
    found = sections(**{**READ, **changes})
    return collected._existing_pods(found, [line.split() for line in collected._lines(found, "pods")], ["net.ipv4.ip_forward", "net.no"])


def test_pods_that_run_already() -> None:
    """One was looked into; the other one is over the limit."""
    (pod,) = existing_pods()
    assert (pod["name"], pod["congestion_control"]) == ("a/one", "bbr")
    assert pod["sysctls"] == {"net.ipv4.ip_forward": "0", "net.no": None}
    assert [link["mtu"] for link in pod["links"]] == [65536, 1450]
    assert [route["dst"] for route in pod["routes"]] == ["default"]


def test_pod_that_ended_meanwhile_is_left_out() -> None:
    assert len(existing_pods(enter__12=("", 1, "nsenter: cannot open /proc/12/ns/net: No such file or directory"))) == 1
    other = (INSIDE.replace("4026532", "4026599"), 0, "")
    assert existing_pods(inside__11=other) == [], "its number is another process's now"


@pytest.mark.parametrize(
    ("entered", "message"),
    [
        (("", 127, "sh: nsenter: not found"), "nsenter: not on the node"),
        (
            ("", 1, "nsenter: reassociate to namespace failed: Operation not permitted"),
            "a/two: nsenter: exit status 1: nsenter: reassociate",
        ),
    ],
)
def test_pods_that_cannot_be_entered(entered: tuple[str, int, str], message: str) -> None:
    with pytest.raises(Failed, match=message):
        existing_pods(enter__12=entered)


def test_pod_whose_devices_are_not_read() -> None:
    with pytest.raises(Failed, match="a/one: ip -j link, ip -j route: Cannot open netlink socket"):
        existing_pods(network__11=("", 1, "Cannot open netlink socket"))


def test_values_are_quoted_for_the_shell() -> None:
    text = collected.script("facts", {**PARAMS, "skip_namespace": "x'; touch /tmp/evil; '"}, MARK).decode()
    assert "skip='x'\"'\"'; touch /tmp/evil; '\"'\"''\n" in text


def test_ways_of_vxlan_devices_and_bgp_sessions() -> None:
    def device(name: str, *, learning: bool) -> tuple[str, int, str]:
        return json.dumps([{"ifname": name, "linkinfo": {"info_kind": "vxlan", "info_data": {"learning": learning}}}]), 0, ""

    protocols = (
        "BIRD 2.0.12 ready.\nName       Proto      Table      State  Since         Info\n"
        "node_2     BGP        ---        up     20:34:30.489  Established   \n"
    )
    found = sections(
        device__flannel=device("flannel", learning=False),
        neighbours__flannel=('[{"dst": "10.200.2.0", "lladdr": "d2:72:a9:22:db:41"}]', 0, ""),
        fdb__flannel=('[{"mac": "d2:72:a9:22:db:41", "dst": "10.199.0.12"}]', 0, ""),
        device__learns=device("learns", learning=True),
        neighbours__learns=("", 0, ""),
        fdb__learns=("", 0, ""),
        **{"bird__/run/bird/bird.ctl": (protocols, 0, "")},
    )
    assert collected._forwarding(found) == {"flannel": {"10.200.2.0": ["10.199.0.12"]}}
    assert collected._bgp(found) == [
        {
            "socket": "/run/bird/bird.ctl",
            "sessions": [{"name": "node_2", "state": "up", "since": "20:34:30.489", "info": "Established"}],
            "error": None,
        }
    ]
    assert (collected._forwarding(sections()), collected._bgp(sections())) == ({}, [])


def test_bird_without_birdc_is_no_node_without_bird() -> None:
    (speaker,) = collected._bgp(sections(**{"bird__/run/calico/bird.ctl": ("", 127, "sh: birdc: not found")}))
    assert (speaker["sessions"], speaker["error"]) == (None, "birdc: not on the node")


def test_a_bird_that_is_gone_is_so_by_birdc_too() -> None:
    refused = "Unable to connect to server control socket (/run/calico/bird.ctl): Connection refused"
    (told,) = Bgp.from_json(collected._bgp(sections(**{"bird__/run/calico/bird.ctl": ("", 1, refused)})))
    assert (told.is_gone, told.sessions) == (True, ())


def test_speeds_of_devices_with_hardware() -> None:
    def path(name: str) -> str:
        return f"/sys/class/net/{name}/device/net/{name}/speed"

    files = {path("eth1"): "25000", path("eth0"): "10000", path("eth2"): "-1", "/sys/class/net/bond0/speed": "35000"}
    assert collected.speeds(files) == {"eth0": 10000, "eth1": 25000}


UID = "0a1b2c3d-0000-4000-8000-00000000000a"
AGENT_UID = "0a1b2c3d-0000-4000-8000-00000000000b"


def running_pods(shell: list[str], kept: str, uids: Mapping[str, str]) -> str:
    """Return what the collector says of pods on a node with these processes; `kept` is the number of a namespace."""
    links = {"1": 1, "self": 1, "40": 1, "70": 7, "71": 7, "90": 9, "92": 8}
    namespaces = "\n".join(f"lrwxrwxrwx 1 root root 0 Nov 24 03:00 /proc/{pid}/ns/net -> net:[{number}]" for pid, number in links.items())
    functions = SCRIPT.read_text().replace("\nmain </dev/null", "")
    cases = "\n".join(f"/proc/{pid}/cgroup) echo $path:0::/kubepods/pod{uid}/a/docker/b ;;" for pid, uid in uids.items())
    play = f"""
        lines_of() {{ for path in "$@"; do case $path in
            {cases}
            *) echo $path:0::/init.scope ;; esac; done; }}
        kept_namespaces() {{ echo 'net:[{kept}]'; }}
        namespaces={shlex.quote(namespaces)}
        running_pods
    """
    ran = subprocess.run([*shell, "-s"], input=f"skip=\n{functions}\n{play}", capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("kept", "chosen"), [("7", "70 net:[7]"), ("8", "92 net:[8]"), ("1", "70 net:[7]")], ids=["first", "last", "not-kept"]
)
def test_of_a_pod_s_network_namespaces_the_one_that_the_runtime_keeps_is_looked_at(shell: list[str], kept: str, chosen: str) -> None:
    """As the agent does: Docker in Docker."""
    assert running_pods(shell, kept, dict.fromkeys(("70", "71", "90", "92"), UID)) == f"{UID} {chosen}\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_pod_in_the_network_namespace_of_the_node_has_no_other(shell: list[str]) -> None:
    """As the agent says: Cilium's health endpoint, and a tool of its pod that has entered another pod's."""
    assert running_pods(shell, "9", {"40": AGENT_UID, "70": AGENT_UID, "71": UID, "90": AGENT_UID}) == f"{UID} 71 net:[7]\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_network_namespaces_that_are_kept_by_a_file(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "cni-1").write_text("")
    functions = SCRIPT.read_text().replace("\nmain </dev/null", "")
    play = f"namespace_files='/nowhere {tmp_path}'\n{functions}\nkept_namespaces"
    ran = subprocess.run([*shell, "-s"], input=play, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == f"net:[{(tmp_path / 'cni-1').stat().st_ino}]\n"


@needs_ip
@pytest.mark.usefixtures("no_other_kubelet")
@pytest.mark.skipif(os.getuid() != 0, reason="another root takes root")
@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell[0] != "busybox"], ids=" ".join)
@pytest.mark.parametrize("by_file", [True, False], ids=["file", "flag"])
def test_kube_proxy_is_asked_at_the_port_of_its_configuration(shell: list[str], tmp_path: Path, web: int, by_file: bool) -> None:
    """As OpenShift has it."""
    (tmp_path / "config.yaml").write_text(f"kind: KubeProxyConfiguration\nmetricsBindAddress: 127.0.0.1:{web}\nmode: ipvs\n")
    flag = f"--config={tmp_path}/config.yaml" if by_file else f"--metrics-bind-address=127.0.0.1:{web}"
    program = ["/usr/bin/kube-proxy", "-c", "import time; print(flush=True); time.sleep(60)", flag]
    with subprocess.Popen(program, executable=sys.executable, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            found, wanted = collected.facts(run_script("facts", shell=shell), PARAMS)["kube_proxy"], by_agent("facts")["kube_proxy"]
            table = collected.ipvs(run_script("ipvs", shell=shell), PARAMS)
        finally:
            process.kill()
    assert (found["mode"], found["port"], found["metrics"]) == (wanted["mode"], wanted["port"], wanted["metrics"]) == ("ipvs", web, KEPT)
    assert (table["mode"], by_file or found["configz"]) == ("ipvs", by_file or None)
