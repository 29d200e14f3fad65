from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.client import AGENT_ARGV, agent_source
from pytest_k8snet.agent import agent
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.facts import Bgp, BgpSession, NetNamespace, NodeFacts


class LocalAgent:
    """The agent as a process here, started as in a pod, by the command `before` if there is one."""

    def __init__(self, *before: str) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, *AGENT_ARGV[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        program = agent_source()
        self.write(b"%08d" % len(program) + program)
        self.ready = self.read()

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = b"\n"
        while line == b"\n":
            line = self.process.stdout.readline()
        return json.loads(line)

    def ask(self, op: str, **params: Any) -> Any:
        self.write(json.dumps({"id": 7, "op": op, "params": params}).encode() + b"\n")
        return self.read()


@pytest.fixture
def local() -> Iterator[LocalAgent]:
    agent = LocalAgent()
    with agent.process:
        yield agent
        assert agent.process.stdin is not None
        agent.process.stdin.close()
        assert agent.process.wait(10) == 0


def test_ready(local: LocalAgent) -> None:
    assert local.ready == {"ready": 1, "python": ".".join(map(str, sys.version_info[:3]))}


PROGRAM = """
from pytest_k8snet.agent.agent import Failed

def repeat(params):
    if "word" not in params:
        raise Failed("request", "no word")
    return params["word"]

OPERATIONS = {"repeat": repeat}
"""


def test_a_program_of_a_measurement_is_taken_in(local: LocalAgent) -> None:
    """It finds what it imports from the agent, although nothing is installed."""
    assert local.ask("parrot.repeat", word="hello")["error"]["message"] == "no operation 'parrot.repeat'"
    assert local.ask("load", name="parrot", source=PROGRAM) == {"id": 7, "result": None}
    assert local.ask("parrot.repeat", word="hello")["result"] == "hello"
    assert local.ask("parrot.repeat")["error"] == {"kind": "request", "message": "no word"}
    assert "SyntaxError" in local.ask("load", name="x", source="(")["error"]["message"]


def test_nothing_but_addresses_gets_into_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of ip runs as root: a line in what an API server calls an address must not become one of it."""
    asked: list[str] = []

    def batch(lines: list[str]) -> tuple[list[Any], str]:
        asked.extend(lines)
        return [[{"dst": "10.244.2.2", "dev": "eth0"}], [], [], []], ""

    monkeypatch.setattr(agent, "ip_batch", batch)
    hostile = ("10.0.0.1\nlink set eth0 down", "10.0.0.1 oif x", "-all", "", "10.0.0.1\0", "1")
    peers = {f"node-{number}": (address, False) for number, address in enumerate((*hostile, "10.244.2.2"))}
    nowhere, there = agent.facts({"role": "host", "peers": peers})["peer_routes"]
    assert asked == ["route get 127.0.0.1"] * len(hostile) + ["route get 10.244.2.2", "link show", "route show", "neigh show"]
    assert (nowhere["dev"], nowhere["error"]) == (None, "what the API server gives for it is no address")
    assert [address for address, _ in nowhere["peers"].values()] == [*hostile]
    assert (there["dev"], there["error"], [*there["peers"]]) == ("eth0", None, [f"node-{len(hostile)}"])
    for address in hostile[:3]:
        with pytest.raises(agent.Failed, match=re.escape(f"{address!r} is no address of an uplink")):
            agent.facts({"role": "host", "uplink_ip": address})


BATCH = [[{"dst": "10.244.2.5", "dev": "eth0"}], [{"ifname": "eth0"}], [], [{"dst": "10.0.0.1"}]]
NO_ROUTE = "RTNETLINK answers: Network is unreachable\nCommand failed -:2"


@pytest.mark.parametrize(
    ("documents", "errors", "shown"),
    [
        pytest.param(BATCH, NO_ROUTE, {"link show": BATCH[1], "route show": [], "neigh show": BATCH[3]}, id="one-of-the-first-failed"),
        pytest.param(
            BATCH[:3], f"{NO_ROUTE}\nCannot open netlink\nCommand failed -:5", {"link show": BATCH[1], "route show": []}, id="one-failed"
        ),
        pytest.param(BATCH[:1], f"{NO_ROUTE}\nx\nCommand failed -:3\nCommand failed -:4\nCommand failed -:5", {}, id="all-failed"),
    ],
)
def test_what_a_batch_shows(monkeypatch: pytest.MonkeyPatch, documents: list[Any], errors: str, shown: dict[str, Any]) -> None:
    monkeypatch.setattr(agent, "ip_batch", lambda lines: (documents, errors))
    lines = [*agent.LINKS_AND_ROUTES, agent.NEIGHBOURS]
    assert agent.ip_show(lines, ["route get 10.244.2.5", "route get 10.244.3.5"]) == (shown, BATCH[:1], errors)


def test_a_batch_that_shows_less_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "ip_batch", lambda lines: ([[]], "Usage: ip"))
    with pytest.raises(agent.Failed, match="ip -j -batch: Usage: ip"):
        agent.namespace_facts([])
    monkeypatch.setattr(agent, "ip_batch", lambda lines: ([[]], "not permitted\nCommand failed -:2"))
    with pytest.raises(agent.Failed, match="ip -j route show: not permitted"):
        agent.namespace_facts([])


def test_neighbours_that_are_not_shown_are_not_none(monkeypatch: pytest.MonkeyPatch) -> None:
    documents: list[Any] = [[], [], [{"ifname": "eth0"}]]
    monkeypatch.setattr(agent, "ip_batch", lambda lines: (documents, "no memory\nCommand failed -:3"))
    values = agent.facts({"role": "host", "uplink_ip": "10.0.0.1"})
    assert (values["uplink"], values["neighbour_entries"]) == ("eth0", None)
    assert values["errors"]["neighbour_entries"] == "ip -j neigh show: no memory\nCommand failed -:3"


def test_the_root_of_another_process_is_entered_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []
    monkeypatch.setattr(agent, "in_child", lambda function, timeout_s: function())
    monkeypatch.setattr(os, "chroot", entered.append)
    monkeypatch.setattr(os, "chdir", entered.append)
    assert agent.in_root_of(str(os.getpid()), lambda: "here", 1.0) == "here"
    assert entered == []
    monkeypatch.setattr(agent, "same_root", lambda pid: False)
    assert agent.in_root_of("1", lambda: "there", 1.0) == "there"
    assert entered == ["/proc/1/root", "/"]


def test_a_process_that_is_gone_has_no_root_of_ours() -> None:
    assert not agent.same_root("0")


SECRET_FLAGS = ["--token=planted", "--password", "planted", "--master=https://me:planted@192.0.2.1", "planted"]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (
            ["/bin/kube-proxy", "--config=/x", *SECRET_FLAGS, "--proxy-mode", "ipvs"],
            ["/bin/kube-proxy", "--config=/x", "--proxy-mode", "ipvs"],
        ),
        (["hyperkube", "proxy", *SECRET_FLAGS, "--hostname-override=n", ""], ["hyperkube", "proxy", "--hostname-override=n"]),
        (["kube-proxy", "--cleanup", "--token", "planted"], ["kube-proxy", "--cleanup"]),
        (["kube-proxy", "--config", "--token", "planted"], ["kube-proxy", "--config"]),
        (["kube-proxy", *SECRET_FLAGS], ["kube-proxy"]),
        (["kube-proxy", ""], ["kube-proxy"]),
        (
            ["/snap/microk8s/8612/kubelite", *SECRET_FLAGS, "--proxy-args-file=/var/snap/microk8s/8612/args/kube-proxy", ""],
            ["/snap/microk8s/8612/kubelite", "--proxy-args-file=/var/snap/microk8s/8612/args/kube-proxy"],
        ),
        (["/usr/bin/kube-proxy", "planted"], ["/usr/bin/kube-proxy"]),
    ],
)
def test_flags_that_nobody_needs_stay_on_the_node(arguments: list[str], kept: list[str]) -> None:
    assert agent.without_secrets(arguments) == kept


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (
            {
                "kubeproxy.config.k8s.io": {
                    "mode": "ipvs",
                    "syncPeriod": "30s",
                    "ipvs": {"scheduler": "rr"},
                    "IPVSConfiguration": {"excludeCIDRs": ["192.0.2.0/24"]},
                    "conntrack": {"maxPerCore": 1},
                    "clientConnection": {"kubeconfig": "/x", "token": "planted"},
                },
                "other": {"token": "planted"},
            },
            {
                "kubeproxy.config.k8s.io": {
                    "mode": "ipvs",
                    "syncPeriod": "30s",
                    "ipvs": {"scheduler": "rr"},
                    "IPVSConfiguration": {"excludeCIDRs": ["192.0.2.0/24"]},
                    "conntrack": {"maxPerCore": 1},
                }
            },
        ),
        ({"kubeproxy.config.k8s.io": "planted"}, {}),
        (["planted"], None),
    ],
)
def test_settings_that_nobody_needs_stay_on_the_node(monkeypatch: pytest.MonkeyPatch, body: Any, kept: Any) -> None:
    assert agent.kube_proxy_configz({"address": "127.0.0.1", "port": 10249}, lambda *_: (200, json.dumps(body))) == kept
    assert agent.kube_proxy_configz({"address": None}) is None


def test_run(local: LocalAgent) -> None:
    answer = local.ask("run", argv=["sh", "-c", "cat; echo e >&2; exit 3"], stdin="grüße")
    assert answer["id"] == 7
    result = answer["result"]
    assert (result["exit_status"], result["stdout"], result["stderr"]) == (3, "grüße", "e\n")


def test_time_is_bounded_for_children_of_children(local: LocalAgent, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    answer = local.ask("run", argv=["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout_s=2)
    assert answer["error"]["kind"] == "timeout"
    state = Path(f"/proc/{int(pid_file.read_text())}/status")
    deadline = time.monotonic() + 30  # the kernel ends what was killed when it gets to it
    while state.exists() and "State:\tZ" not in state.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "line",
    [b"garbage", b"[]", b"{}", b'{"id": 1, "op": "run"}', b'{"id": 1, "op": "run", "params": {"argv": []}}', b'{"op": {}}', b"\xff\xfe"],
)
def test_bad_requests_do_not_end_it(local: LocalAgent, line: bytes) -> None:
    local.write(line + b"\n")
    assert "error" in local.read()
    assert local.ask("run", argv=["echo", "alive"])["result"]["stdout"] == "alive\n"


def test_requests_that_arrive_in_pieces_and_together(local: LocalAgent) -> None:
    lines = b"".join(json.dumps({"id": number, "op": "run", "params": {"argv": ["true"]}}).encode() + b"\n" for number in range(3))
    local.write(lines[:10])
    local.write(lines[10:])
    assert [local.read()["id"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.skipif(agent.run(["true"])[0] != 0 or not any(os.access(f"{d}/ip", os.X_OK) for d in agent.TOOL_PATH), reason="no ip here")
def test_facts_have_the_shape_that_judges_read(local: LocalAgent) -> None:
    answer = local.ask("facts", role="host", sysctls=["net.ipv4.ip_forward", "no.such"], uplink_ip="127.0.0.1", peers=[])
    values = answer["result"]
    own = local.ask("facts", role="pod", sysctls=["net.ipv4.ip_forward"])["result"]
    values = {**values, "pod": {"name": "probe-node-1", **own}, "pod_error": None}
    document = Document(kind="facts", subject="node-1", started="2026-11-24T00:00:00+00:00", duration_s=1.0, method="agent", values=values)
    facts = NodeFacts.from_document(document)
    assert facts.uplink == "lo"
    assert facts.host.link("lo") is not None
    assert facts.host.sysctls["no.such"] is None
    assert facts.host.congestion_control
    assert facts.pod is not None
    assert facts.pod.sysctls["net.ipv4.ip_forward"] in ("0", "1")
    assert facts.kube_proxy.mode is None
    assert facts.agent == "python"
    assert facts.tools.keys() == {*agent.TOOLS}
    tool = facts.tools["ip"]
    assert tool is not None
    assert tool.path.endswith("/ip")
    assert tool.origin in ("image", "node")


@pytest.mark.parametrize(("same", "origin"), [(True, "node"), (False, "image")])
def test_where_tools_come_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, same: bool, origin: str) -> None:
    """Found here they are the image's, unless this is the node's own root; what only the node has is the node's; and some nobody has."""
    monkeypatch.setattr(agent, "TOOLS", ("ip", "tc", "nft"))
    monkeypatch.setattr(agent, "TOOL_PATH", (str(tmp_path / "bin"),))
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path / "host"))
    monkeypatch.setattr(agent, "on_node", lambda: same)
    for path in (tmp_path / "bin" / "ip", tmp_path / "host" / f"{tmp_path}/bin/tc".lstrip("/")):
        path.parent.mkdir(parents=True)
        path.write_text("")
        path.chmod(0o755)
    assert agent.tools() == {
        "ip": {"path": f"{tmp_path}/bin/ip", "from": origin},
        "tc": {"path": f"{tmp_path}/bin/tc", "from": "node"},
        "nft": "missing",
    }
    told = "nft: not on the node" if same else "nft: neither in the probe image nor on the node"
    with pytest.raises(agent.Failed, match=told):
        agent.find_tool("nft")


def test_whether_this_is_the_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(agent, "HOST_ROOT", "/")
    assert agent.on_node()
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path))
    assert not agent.on_node()
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path / "none"))
    assert not agent.on_node()


SAVE = """\
# Generated by iptables-save v1.8.9 on Tue Nov 24 00:00:00 2026
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-USED - [0:0]
:KUBE-SEP-USED - [0:0]
:KUBE-SVC-LEFT - [0:0]
:KUBE-SEP-LEFT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:CNI-HOSTPORT - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals -j KUBE-SVC-LEFT" -g CNI-HOSTPORT
-A CNI-HOSTPORT -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-USED
-A KUBE-SVC-USED -j KUBE-SEP-USED
-A KUBE-SEP-USED -p tcp -j DNAT --to-destination 10.0.0.1:6443
-A KUBE-SVC-LEFT -j KUBE-SEP-LEFT
COMMIT
"""


def test_reachable_chains() -> None:
    found = agent.kube_chains([SAVE])
    assert found["chains"] == [
        "KUBE-KUBELET-CANARY",
        "KUBE-SEP-LEFT",
        "KUBE-SEP-USED",
        "KUBE-SERVICES",
        "KUBE-SVC-LEFT",
        "KUBE-SVC-USED",
    ]
    assert found["reachable"] == ["KUBE-SEP-USED", "KUBE-SERVICES", "KUBE-SVC-USED"]


def test_chains_with_hashes_for_names_are_counted_where_they_are_many() -> None:
    services = [
        f"KUBE-SVC-{'A' * 12}{number:04}".replace("0", "B").replace("1", "C").replace("8", "D").replace("9", "E") for number in range(70)
    ]
    others = ["KUBE-SERVICES", "KUBE-SEP-AAAAAAAAAAAAAAAA", *(f"KUBE-POOL-{number}" for number in range(60))]
    found = agent.named("chains", [*services, *others])
    assert found["chains"] == sorted([*sorted(services)[:50], *others])
    assert found["more_chains"] == {"KUBE-SVC-": len(set(services)) - 50}


GET_ROUTES = [
    [{"dst": "10.244.2.5", "gateway": "192.168.10.12", "dev": "eth0"}],
    [{"dst": "10.244.3.5", "via": {"family": "inet6", "host": "fe80::3"}, "dev": "eth0"}],
    [{"dst": "10.244.5.5", "dev": "eth0"}],
    [{"type": "blackhole", "dst": "10.244.6.5"}],
]


def test_routes_to_peers_to_which_the_way_is_the_same() -> None:
    peers = [(f"node-{number}", f"10.244.{number}.5", number != 5) for number in (2, 3, 4, 5, 6)]
    assert agent.read_peer_routes(peers, GET_ROUTES, "RTNETLINK answers: Network is unreachable\nCommand failed -:3") == [
        {
            "dev": "eth0",
            "error": None,
            "real_pod": True,
            "peers": {"node-2": ["10.244.2.5", "192.168.10.12"], "node-3": ["10.244.3.5", "fe80::3"]},
        },
        {
            "dev": None,
            "error": "RTNETLINK answers: Network is unreachable",
            "real_pod": True,
            "peers": {"node-4": ["10.244.4.5", None]},
        },
        {"dev": "eth0", "error": None, "real_pod": False, "peers": {"node-5": ["10.244.5.5", None]}},
        {"dev": None, "error": "the route is blackhole", "real_pod": True, "peers": {"node-6": ["10.244.6.5", None]}},
    ]


def test_routes_to_a_peer_are_apart_by_family() -> None:
    params = {"peers": {"node-2": ["10.244.2.5", True]}, "second_peers": {"node-2": ["fd00::5", True]}}
    asked = agent.asked_peers(params)
    assert asked == [("node-2", "10.244.2.5", True), ("node-2", "fd00::5", True)]
    answers = [[{"dst": "10.244.2.5", "dev": "eth0"}], [{"dst": "fd00::5", "gateway": "fd00:1::2", "dev": "eth0"}]]
    common = {"dev": "eth0", "error": None, "real_pod": True}
    assert agent.read_peer_routes(asked, answers, "") == [
        {**common, "peers": {"node-2": ["10.244.2.5", None]}},
        {**common, "peers": {"node-2": ["fd00::5", "fd00:1::2"]}},
    ]
    assert agent.asked_peers({}) == []


def test_table_without_counters() -> None:
    lines = [
        "TCP  0A600001:01BB rr persistent 10800 FFFFFFFF ",
        "  -> 0AC70001:192B      Masq    1      17         250       ",
        "  -> [fd00:0244:0001:0000:0000:0000:0000:0005]:1F90      Masq    0      0          0",
    ]
    assert agent.without_counters("\n".join(lines)).split("\n") == [
        "TCP  0A600001:01BB rr persistent 10800 FFFFFFFF ",
        "  -> 0AC70001:192B      Masq    1",
        "  -> [fd00:0244:0001:0000:0000:0000:0000:0005]:1F90      Masq    0",
    ]


def test_table_of_virtual_servers_alone() -> None:
    head = "IP Virtual Server version 1.2.1 (size=4096)\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    table = head + "TCP  0A600001:01BB rr  \n  -> 0AC70001:192B      Masq    1\nTCP  [fd00::1]:0035 lc\n  -> [fd00::5]:1F90      Masq    0"
    found = agent.without_real_servers({"loaded": True, "table": table})
    assert found == {"loaded": True, "table": head + "TCP  0A600001:01BB rr  \nTCP  [fd00::1]:0035 lc\n"}
    assert agent.without_real_servers({"loaded": False, "table": None}) == {"loaded": False, "table": None}


def test_chains_that_refer_to_each_other() -> None:
    text = "*nat\n:INPUT ACCEPT [0:0]\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n-A KUBE-A -j KUBE-B\n-A KUBE-B -j KUBE-A\n"
    assert agent.kube_chains([text])["reachable"] == []
    assert agent.kube_chains([text + "-A INPUT -j KUBE-B\n"])["reachable"] == ["KUBE-A", "KUBE-B"]


def test_persisted_sysctls_in_the_order_they_are_applied(tmp_path: Path) -> None:
    first, second = tmp_path / "etc", tmp_path / "usr"
    first.mkdir()
    second.mkdir()
    (first / "50-a.conf").write_text("# comment\n; comment\n\nnet.ipv4.ip_forward = 1\n-net/ipv4/conf/eth0.100/rp_filter=2\nnonsense\n")
    (second / "50-a.conf").write_text("net.ipv4.ip_forward = 0\n")
    (second / "10-b.conf").write_text("net.ipv4.tcp_rmem = 4096\t131072   6291456\n")
    (second / "README").write_text("net.ipv4.ip_forward = 0\n")
    (first / "60-masked.conf").symlink_to("/dev/null")
    (second / "60-masked.conf").write_text("net.core.somaxconn = 1\n")
    last = tmp_path / "sysctl.conf"
    last.write_text("net.ipv4.ip_forward=0\n- net.ipv4.conf.all.rp_filter\n")
    folders = [str(first), str(second), str(tmp_path / "none")]
    found = agent.persisted_sysctls(folders, str(last))
    assert agent.persisted_sysctls(folders, None) == found[:-2], "systemd reads the last file only by a link in a folder"
    assert found == [
        {"key": "net.ipv4.tcp_rmem", "value": "4096 131072 6291456", "file": f"{second}/10-b.conf", "line": 1},
        {"key": "net.ipv4.ip_forward", "value": "1", "file": f"{first}/50-a.conf", "line": 4},
        {"key": "net.ipv4.conf.eth0/100.rp_filter", "value": "2", "file": f"{first}/50-a.conf", "line": 5},
        {"key": "net.ipv4.ip_forward", "value": "0", "file": str(last), "line": 1},
        {"key": "net.ipv4.conf.all.rp_filter", "value": None, "file": str(last), "line": 2},
    ]


def test_values_in_force_of_what_files_assign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in ("all", "default", "eth0.5"):
        (tmp_path / "net/ipv4/conf" / key).mkdir(parents=True)
        (tmp_path / "net/ipv4/conf" / key / "rp_filter").write_text("2\n")
    monkeypatch.setattr(agent, "SYSCTLS", f"{tmp_path}/")
    persisted = [{"key": key} for key in ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eth0/5.rp_filter", "net.no.such")]
    assert agent.running_sysctls(persisted) == {"net.ipv4.conf.all.rp_filter": "2", "net.ipv4.conf.default.rp_filter": "2"}


STATISTICS = {
    "/proc/stat": "cpu  10 1 5 80 2 0 1 7 0 0\ncpu0 5 0 2 40 1 0 0 3 0 0\ncpu1 5 1 3 40 1 0 1 4 0 0\nintr 99\n",
    "/proc/net/softnet_stat": "0000000a 00000001 00000002 0\n00000010 00000000 00000001 0\n",
    "/proc/net/dev": (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
        "  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n"
        "vethx: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"
    ),
    "/proc/net/stat/nf_conntrack": (
        "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop\n"
        "00000011  00000000 00000000 00000000 00000001 0 0 0 0 0000000a 00000002 00000000\n"
        "00000011  00000000 00000000 00000000 00000001 0 0 0 0 00000001 00000000 00000003\n"
    ),
}


def test_what_the_kernel_counts() -> None:
    found = agent.read_activity(12.3456, STATISTICS.get, {"error": None}, ["eth0"])
    conntrack = found.pop("conntrack")
    assert found == {
        "at_s": 12.346,
        "processor": {
            "online": 2,
            "user": 10,
            "nice": 1,
            "system": 5,
            "idle": 80,
            "iowait": 2,
            "irq": 0,
            "softirq": 1,
            "steal": 7,
        },
        "softnet": {"processed": 26, "dropped": 1, "time_squeeze": 3},
        "devices": {"eth0": {"rx_packets": 10, "rx_errors": 1, "rx_dropped": 2, "tx_packets": 20, "tx_errors": 3, "tx_dropped": 4}},
        "log": {"error": None},
    }
    assert (conntrack["insert_failed"], conntrack["drop"], conntrack["early_drop"], conntrack["invalid"]) == (11, 2, 3, 2)
    assert "entries" not in conntrack
    empty = agent.read_activity(1.0, lambda _: None, {}, [])
    assert (empty["conntrack"], empty["softnet"], empty["devices"]) == (None, None, {})


def test_the_kernel_log_is_read_record_by_record(monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[Any] = [
        b"6,1,500000,-;Linux\n SUBSYSTEM=x",
        BrokenPipeError(),
        b"4,9,12500000,-;nf_conntrack: nf_conntrack: table full, dropping packet\n",
        b"6,10,13250000,c;eth0: up; really\n",
        BlockingIOError(),
    ]

    def read(descriptor: int, size: int) -> bytes:
        assert (descriptor, size) == (-5, 8192)
        record = records.pop(0)
        if isinstance(record, OSError):
            raise record
        assert isinstance(record, bytes)
        return record

    monkeypatch.setattr(os, "open", lambda *_: -5)
    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(os, "close", lambda _: None)
    assert agent.kernel_log() == {"last_s": 13.25, "table_full": 1, "table_full_s": [12.5], "error": None}
    records[:] = [PermissionError(1, "Operation not permitted")]
    assert agent.kernel_log()["error"] == "/dev/kmsg: Operation not permitted"
    monkeypatch.setattr(os, "open", refuse)
    assert agent.kernel_log() == {"last_s": 0.0, "table_full": 0, "table_full_s": [], "error": "/dev/kmsg: Permission denied"}


def test_flags_of_the_clock() -> None:
    assert agent.read_clock(0x2001, 500) == {"problems": [], "max_error_us": 500}
    assert agent.read_clock(0x40, 16_000_000) == {"problems": ["unsynchronised"], "max_error_us": 16_000_000}
    assert agent.clock().keys() == {"problems", "max_error_us"}


def test_modules_that_are_loaded_and_built_in() -> None:
    built_in = "kernel/net/netfilter/nf_conntrack.ko\nkernel/net/ipv4/tcp_bbr.ko.xz\nkernel/fs/ext4/ext4.ko\nkernel/net/8021q/8021q.ko\n"
    assert agent.loaded_modules(["ip_vs", "ip_vs_rr", "nvme", "br_netfilter"], built_in) == [
        "8021q",
        "br_netfilter",
        "ip_vs",
        "ip_vs_rr",
        "nf_conntrack",
        "tcp_bbr",
    ]


def test_sysctl_of_a_device_with_a_dot() -> None:
    assert agent.sysctl_path("net.ipv4.conf.eth0/100.arp_ignore") == "/proc/sys/net/ipv4/conf/eth0.100/arp_ignore"


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("0::/kubepods/burstable/pod0f3c1a52-7d1e-4c0b-9a57-3a5f1f8a1b2c/8d4f", "0f3c1a52-7d1e-4c0b-9a57-3a5f1f8a1b2c"),
        (
            "0::/kubepods.slice/kubepods-pod0f3c1a52_7d1e_4c0b_9a57_3a5f1f8a1b2c.slice/cri-containerd-1.scope",
            "0f3c1a52-7d1e-4c0b-9a57-3a5f1f8a1b2c",
        ),
        ("0::/../../podd41d8cd98f00b204e9800998ecf8427e/x", "d41d8cd98f00b204e9800998ecf8427e"),
        ("0::/system.slice/podman.service", None),
    ],
)
def test_pod_uid(text: str, uid: str | None) -> None:
    assert agent.pod_uid(text) == uid


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["/usr/local/bin/kube-proxy", "--config=/x"], True),
        (["kube-proxy"], True),
        (["/hyperkube", "kube-proxy", "--x"], True),
        (["grep", "kube-proxy"], False),
        (["/usr/bin/vim", "kube-proxy.yaml"], False),
        ([""], False),
    ],
)
def test_is_kube_proxy(arguments: list[str], wanted: bool) -> None:
    assert agent.is_kube_proxy(arguments) is wanted


@pytest.mark.parametrize("listening", [True, False])
def test_microk8s_has_a_kube_proxy_where_one_answers(monkeypatch: pytest.MonkeyPatch, listening: bool) -> None:
    """Its one process is called so with and without one within."""
    command = ["/snap/microk8s/8612/kubelite", "--proxy-args-file=/var/snap/microk8s/8612/args/kube-proxy", "--start-control-plane=true"]
    monkeypatch.setattr(agent, "processes", lambda: ["30"])
    monkeypatch.setattr(agent, "read_or_none", {"/proc/30/cmdline": "\0".join(command)}.get)
    monkeypatch.setattr(agent, "net_namespace", lambda pid: "net:[1]")
    wanted = ["pid 30: /snap/microk8s/8612/kubelite --proxy-args-file=/var/snap/microk8s/8612/args/kube-proxy"]
    assert agent.kube_proxy_processes(listening) == (wanted if listening else [])


def test_documents_of_a_batch() -> None:
    assert agent.parse_documents('[{"a":1}]\n[ ]\n\n[{"b":2}] ') == [[{"a": 1}], [], [{"b": 2}]]


def test_routes_with_several_hops() -> None:
    route = {
        "dst": "10.244.2.0/24",
        "protocol": "bird",
        "nexthops": [{"gateway": "10.0.0.2", "dev": "eth0"}, {"gateway": "10.1.0.2", "dev": "eth1"}],
    }
    flat = agent.flat_route(route)
    assert [(hop["dst"], hop["dev"], hop["gateway"]) for hop in flat] == [
        ("10.244.2.0/24", "eth0", "10.0.0.2"),
        ("10.244.2.0/24", "eth1", "10.1.0.2"),
    ]
    assert agent.flat_route({"dst": "fe80::/64", "dev": "eth0"}) == []
    namespace = NetNamespace.from_json({"links": [], "routes": [*flat, {"dst": "x", "type": "unreachable"}]}, "n")
    assert [route.dev for route in namespace.routes] == ["eth0", "eth1"]


def test_links_are_trimmed() -> None:
    link = {
        "ifname": "v",
        "mtu": 1450,
        "flags": ["UP"],
        "link": "eth0",
        "num_tx_queues": 1,
        "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 1}},
    }
    assert agent.trim_link(link) == {
        "ifname": "v",
        "mtu": 1450,
        "flags": ["UP"],
        "link": "eth0",
        "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 1}},
    }


def refuse(*_arguments: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_part_that_cannot_be_read_is_not_taken_for_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = [{"dst": str(number), "dev": "eth0"} for number in range(1001)]
    monkeypatch.setattr(agent, "ip_batch", lambda lines: ([[], routes, []], ""))
    monkeypatch.setattr(agent, "has_ipv6", lambda text: False)
    monkeypatch.setattr(agent, "ipvs_table", refuse)
    monkeypatch.setattr(agent, "running_pods", refuse)
    values = agent.facts({"role": "host"})
    assert values["ipvs"] == {"loaded": True, "table": None}
    assert {"ipvs", "existing_pods"} <= values["errors"].keys()
    assert (len(values["host"]["routes"]), values["host"]["routes_total"]) == (100, 1001)


REFUSED = ConnectionRefusedError(111, "Connection refused")
SILENT: dict[str, Any] = {"mode": None, "mode_error": "connection refused", "listening": False, "address": None, "port": 10249}


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        pytest.param({}, SILENT, id="nobody"),
        pytest.param(
            {"127.0.0.1": (200, "ipvs\n")},
            {**SILENT, "mode": "ipvs", "mode_error": None, "listening": True, "address": "127.0.0.1"},
            id="answers",
        ),
        pytest.param(
            {"192.168.10.11": (200, "ipvs")},
            {**SILENT, "mode": "ipvs", "mode_error": None, "listening": True, "address": "192.168.10.11"},
            id="bound-to-the-node's-address",
        ),
        pytest.param({"192.168.10.11": TimeoutError("timed out")}, SILENT, id="filtered-on-the-node's-address"),
        pytest.param(
            {"127.0.0.1": ConnectionResetError(104, "Connection reset by peer")},
            {**SILENT, "mode_error": "connection reset by peer", "listening": True},
            id="breaks-off",
        ),
        pytest.param(
            {"127.0.0.1": (200, "<html>\n<title>It works!</title>")},
            {**SILENT, "mode_error": "HTTP 200 and no mode", "listening": True},
            id="another-program",
        ),
        pytest.param({"::1": (404, "")}, {**SILENT, "mode_error": "HTTP 404", "listening": True}, id="not-found"),
    ],
)
def test_mode_of_kube_proxy(answers: dict[str, tuple[int, str] | OSError], wanted: dict[str, Any]) -> None:
    def http_get(address: str, port: int, path: str) -> tuple[int, str]:
        assert (port, path) == (10249, "/proxyMode")
        answer = answers.get(address, REFUSED)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert agent.kube_proxy_mode("192.168.10.11", http_get) == wanted


NFT_CHAINS = '{{"nftables": [{{"metainfo": {{}}}}, {{"chain": {{"family": "ip", "table": "nat", "name": "{name}", "handle": 1}}}}]}}'


@pytest.mark.parametrize(("name", "readable"), [("PREROUTING", True), ("KUBE-SVC-AAAA", False)])
def test_a_nat_table_of_nft_s_own(monkeypatch: pytest.MonkeyPatch, name: str, readable: bool) -> None:
    answers = {"iptables-nft-save": "# Table `nat' is incompatible, use 'nft' tool.\n", "nft": NFT_CHAINS.format(name=name)}
    monkeypatch.setattr(agent, "output", lambda argv: answers[argv[0]])
    found = agent.iptables_nft({"tables": ["ip nat", "inet filter"], "error": None})
    assert (found["chains"], found["error"] is None) == ([], readable)


METRICS = """# HELP kubeproxy_sync_proxy_rules_last_timestamp_seconds [ALPHA] The last time proxy rules were successfully synced
kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7e+09
kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1.6e+09
kubeproxy_sync_proxy_rules_iptables_restore_failures_total 2
kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.001"} 0
kubeproxy_sync_proxy_rules_nftables_sync_failures_total broken
process_start_time_seconds 1.5e+09
go_goroutines 42
"""
KEPT = {
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds": 1.7e9,
    'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"}': 1.6e9,
    "kubeproxy_sync_proxy_rules_iptables_restore_failures_total": 2.0,
    "process_start_time_seconds": 1.5e9,
}


def test_metrics_about_syncs_of_kube_proxy() -> None:
    def refuse(*_: Any) -> tuple[int, str]:
        raise ConnectionRefusedError(111, "Connection refused")

    proxy = {"address": "127.0.0.1", "port": 10249}
    assert agent.kube_proxy_metrics(proxy, lambda *_: (200, METRICS)) == {"metrics": KEPT, "metrics_error": None}
    assert agent.kube_proxy_metrics(proxy, lambda *_: (404, "")) == {"metrics": None, "metrics_error": "HTTP 404"}
    assert agent.kube_proxy_metrics(proxy, refuse) == {"metrics": None, "metrics_error": "[Errno 111] Connection refused"}
    assert agent.kube_proxy_metrics({"address": None}, refuse) == {"metrics": None, "metrics_error": None}


def test_what_kube_proxy_says_of_its_own_syncs() -> None:
    def answer(address: str, port: int, path: str) -> tuple[int, str]:
        assert (address, port, path) == ("::1", 10256, "/livez")
        return 503, "{}"

    def refuse(*_: Any) -> tuple[int, str]:
        raise ConnectionRefusedError(111, "Connection refused")

    assert agent.kube_proxy_livez({"address": "::1"}, answer) == 503
    assert agent.kube_proxy_livez({"address": "::1"}, refuse) is None
    assert agent.kube_proxy_livez({"address": None}, answer) is None


def test_whom_pods_ask_for_names() -> None:
    text = "# made by kubelet\nsearch old\nsearch a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n"
    text += "nameserver fd00::a extra\noptions ndots:5 edns0 ndots:x\n\n"
    assert agent.resolv_conf(text) == {
        "nameservers": ["10.96.0.10", "fd00::a"],
        "search": ["a.svc.cluster.local", "svc.cluster.local"],
        "ndots": 5,
    }
    assert agent.resolv_conf("") == {"nameservers": [], "search": [], "ndots": 1}
    assert agent.resolv_conf(None) is None


def test_neighbour_entries_that_somebody_set_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(dst: str, state: str, **more: Any) -> dict[str, Any]:
        return {"dst": dst, "lladdr": "02:00:00:00:00:01", "state": [state], **more}

    found = [
        entry("10.0.0.2", "STALE", dev="eth0"),
        {"dst": "10.0.0.3", "dev": "eth0", "state": ["FAILED"]},
        entry("10.0.0.1", "REACHABLE", dev="eth0", router=None),
        entry("10.0.0.4", "PERMANENT", dev="eth0"),
        entry("10.0.0.5", "PERMANENT", dev="eth0"),
        entry("10.0.0.6", "PERMANENT", dev="flannel.1"),
    ]
    monkeypatch.setattr(agent, "MOST_PERMANENT", 1)
    monkeypatch.setattr(agent, "MOST_NEIGHBOURS", 1)
    kept = agent.neighbour_entries("eth0", found, [{"dst": "default", "gateway": "10.0.0.1"}])
    assert kept == {"total": 4, "entries": [entry("10.0.0.4", "PERMANENT"), entry("10.0.0.1", "REACHABLE")]}, "a gateway before others"
    assert agent.neighbour_entries(None, found, []) is None


def test_neighbours_of_all_processors() -> None:
    text = "entries  allocs table_fulls\n0000000a 00000001 00000002\n0000000a 00000003 00000001\n"
    assert agent.neighbours(text) == {"entries": 10, "table_fulls": 3}
    assert agent.neighbours("entries allocs\n0000000a 1\n") == {"entries": 10, "table_fulls": 0}
    for none in (None, "", "entries\n", "other\n1\n"):
        assert agent.neighbours(none) == {}


def vxlan(name: str, **data: Any) -> dict[str, Any]:
    return {"ifname": name, "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 1, "learning": False, **data}}}


def test_vxlan_devices_that_have_to_be_told() -> None:
    links = [
        vxlan("flannel.1"),
        vxlan("learns", learning=True),
        vxlan("floods", group="239.1.1.1"),
        vxlan("cilium_vxlan", external=True),
        {"ifname": "eth0"},
        {"ifname": "cni0", "linkinfo": {"info_kind": "bridge"}},
    ]
    assert agent.told_devices(links) == ["flannel.1"]


# As flannel's device has them, on a lab: node-3 has no forwarding entry any more, an entry that is resolved no hardware address.
NEIGHBOURS = [
    {"dst": "10.200.2.0", "lladdr": "d2:72:a9:22:db:41", "state": ["PERMANENT"]},
    {"dst": "10.200.3.0", "lladdr": "4a:cb:66:1c:78:f8", "state": ["PERMANENT"]},
    {"dst": "10.200.4.0", "state": ["FAILED"]},
]
ENTRIES = [
    {"mac": "d2:72:a9:22:db:41", "dst": "10.199.0.12", "flags": ["self"], "state": "permanent"},
    {"mac": "33:33:00:00:00:01", "flags": ["self"], "state": "permanent"},
]


def test_ways_of_a_vxlan_device() -> None:
    assert agent.ways(NEIGHBOURS, ENTRIES) == {"10.200.2.0": ["10.199.0.12"], "10.200.3.0": []}


def test_forwarding_asks_of_those_devices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def output(argv: list[str]) -> str:
        asked.append(" ".join(argv))
        return json.dumps(NEIGHBOURS if argv[0] == "ip" else ENTRIES)

    monkeypatch.setattr(agent, "output", output)
    assert agent.forwarding([vxlan("flannel.1"), vxlan("cilium_vxlan", external=True)]) == {
        "flannel.1": {"10.200.2.0": ["10.199.0.12"], "10.200.3.0": []}
    }
    assert asked == ["ip -j neigh show dev flannel.1", "bridge -j fdb show dev flannel.1"]


BIRD = """2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     20:34:29.549
 pods       Static     master4    up     20:34:29.549
 node_2     BGP        ---        up     20:34:30.489  Established
 Mesh_10_0_0_3 BGP     master     start  2026-11-24  Active        Socket: Connection refused
 off        BGP        ---        down   20:34:30.489
0000
"""


def test_bgp_sessions_by_the_socket_and_by_birdc() -> None:
    wanted = [
        {"name": "node_2", "state": "up", "since": "20:34:30.489", "info": "Established"},
        {"name": "Mesh_10_0_0_3", "state": "start", "since": "2026-11-24", "info": "Active Socket: Connection refused"},
        {"name": "off", "state": "down", "since": "20:34:30.489", "info": ""},
    ]
    assert agent.bgp_sessions(BIRD) == wanted
    dated = BIRD.replace("20:34:30.489  Established", "2026-11-24 20:34:30  Established")
    assert agent.bgp_sessions(dated)[0] == {**wanted[0], "since": "2026-11-24"}
    by_birdc = "BIRD 2.0.12 ready.\n" + re.sub(r"(?m)^\d{4}-| (?=pods|node|Mesh|off)", "", BIRD)
    assert agent.bgp_sessions(by_birdc) == wanted


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("Mesh_10_0_0_3", "10.0.0.3"),
        ("Mesh_fd80_24e2_f998_72d7__2", "fd80:24e2:f998:72d7::2"),
        ("Global_10_0_0_3_port_180", "10.0.0.3"),
        ("Node_fd00__2_port_180", "fd00::2"),
        ("Node_rack", None),
        ("node_2", None),
    ],
)
def test_calicos_names_of_sessions_tell_whom_they_lead_to(name: str, address: str | None) -> None:
    assert BgpSession(name, "up", "Established").peer_address == address


@pytest.fixture
def bird(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Answer at BIRD's socket what is put into the list, a piece for each question; the first one is the greeting."""
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path))
    (tmp_path / "run").mkdir()
    answers = [b"0001 BIRD 2.0.12 ready.\n"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "run/bird.ctl"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(answers[0])
                for answer in answers[1:]:
                    assert connection.recv(100) == b"show protocols\n"
                    for byte in range(0, len(answer), 100):
                        connection.sendall(answer[byte : byte + 100])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield answers
        thread.join(10)


def test_bird_is_asked_at_its_socket(bird: list[bytes]) -> None:
    bird.append(BIRD.replace("0000\n", "0000 \n").encode())
    (asked,) = agent.bgp()
    assert (asked["socket"], asked["error"]) == ("/run/bird.ctl", None)
    assert [session["name"] for session in asked["sessions"]] == ["node_2", "Mesh_10_0_0_3", "off"]


def test_a_bird_that_breaks_off_is_not_a_bird_without_sessions(bird: list[bytes]) -> None:
    bird.append(b"1002-device1    Device     ---        up     20:34:29.549\n")
    assert agent.bgp() == [{"socket": "/run/bird.ctl", "sessions": None, "error": "BIRD broke off its answer"}]


def test_a_socket_that_nobody_answers_at_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path))
    assert agent.bgp() == []
    (tmp_path / "run/calico").mkdir(parents=True)
    for name in ("bird.ctl", "calico/bird6.ctl"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(tmp_path / "run" / name))
    told = Bgp.from_json(agent.bgp())
    assert [speaker.socket for speaker in told] == ["/run/calico/bird6.ctl", "/run/bird.ctl"], "of both address families"
    assert [speaker.is_gone for speaker in told] == [True, True]
    assert told[1].error == f"BIRD at {tmp_path}/run/bird.ctl: Connection refused"


def test_routes_that_tell_subnets_are_kept_of_thousands() -> None:
    pods = [{"dst": f"10.{number // 256}.{number % 256}.0/24", "gateway": "192.168.10.12", "dev": "eth0"} for number in range(1000)]
    subnet = {"dst": "192.168.10.0/24", "dev": "eth0", "prefsrc": "192.168.10.11"}
    default = {"dst": "default", "gateway": "192.168.10.1", "dev": "eth0"}
    kept = agent.few_routes({"routes": [*pods, subnet, default]})
    assert kept["routes"] == [subnet, default, *pods[: agent.MOST_ROUTES - 2]]
    assert kept["routes_total"] == 1002


UID = "0a1b2c3d-0000-4000-8000-00000000000a"
AGENT_UID = "0a1b2c3d-0000-4000-8000-00000000000b"


def of_pod(uid: str) -> str:
    return f"0::/kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice/a/docker/b"


NAMESPACES = {"1": "net:[1]", "self": "net:[1]", "40": "net:[1]", "70": "net:[7]", "71": "net:[7]", "90": "net:[9]", "92": "net:[8]"}


@pytest.mark.parametrize(
    ("kept", "chosen"),
    [
        ({"net:[7]"}, ("70", "net:[7]")),
        ({"net:[8]", "net:[1]"}, ("92", "net:[8]")),
        (set(), ("70", "net:[7]")),
    ],
    ids=["first", "last", "not-kept"],
)
def test_the_network_namespace_of_a_pod_is_the_one_that_the_runtime_keeps(
    monkeypatch: pytest.MonkeyPatch, kept: set[str], chosen: tuple[str, str]
) -> None:
    """Docker in Docker: a container within the pod has a network namespace of its own, and the pod's uid in its control group."""
    texts = {f"/proc/{pid}/cgroup": of_pod(UID) for pid in ("70", "71", "90", "92")}
    monkeypatch.setattr(agent, "processes", lambda: [pid for pid in NAMESPACES if pid.isdigit()])
    monkeypatch.setattr(agent, "net_namespace", NAMESPACES.get)
    monkeypatch.setattr(agent, "read_or_none", texts.get)
    monkeypatch.setattr(agent, "pod_names", lambda: {UID: "ci/runner"})
    monkeypatch.setattr(agent, "kept_namespaces", lambda: kept)
    assert agent.running_pods(None) == {"ci/runner": chosen}


def test_network_namespaces_that_are_kept_by_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "run/netns").mkdir(parents=True)
    (tmp_path / "run/netns/cni-1").write_text("")
    monkeypatch.setattr(agent, "HOST_ROOT", str(tmp_path))
    assert agent.kept_namespaces() == {f"net:[{(tmp_path / 'run/netns/cni-1').stat().st_ino}]"}


def test_a_pod_in_the_network_namespace_of_the_node_has_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cilium's health endpoint is one for its agent's pod, and a tool of that pod may have entered another pod's for a while."""
    uids = {"40": AGENT_UID, "70": AGENT_UID, "71": UID, "90": AGENT_UID}
    monkeypatch.setattr(agent, "processes", lambda: [pid for pid in NAMESPACES if pid.isdigit()])
    monkeypatch.setattr(agent, "net_namespace", NAMESPACES.get)
    monkeypatch.setattr(agent, "read_or_none", {f"/proc/{pid}/cgroup": of_pod(uid) for pid, uid in uids.items()}.get)
    monkeypatch.setattr(agent, "pod_names", lambda: {UID: "ci/runner", AGENT_UID: "kube-system/cilium-x"})
    assert agent.running_pods(None) == {"ci/runner": ("71", "net:[7]")}


OPENSHIFT = "kind: KubeProxyConfiguration\nmetricsBindAddress: 127.0.0.1:29102\nmode: iptables\n"


@pytest.mark.parametrize(
    ("arguments", "text", "port"),
    [
        (["kube-proxy", "--config=/config/c.yaml", "--metrics-bind-address=0.0.0.0:9"], OPENSHIFT, 29102),
        (["kube-proxy", "--config", "/config/c.yaml"], '{"metricsBindAddress":"[::1]:29102","mode":"ipvs"}', 29102),
        (["kube-proxy", "--config=/config/c.yaml"], 'metricsBindAddress: ""\nmode: ipvs\n', 10249),
        (["kube-proxy", "--config=/config/c.yaml"], None, 10249),
        (["kube-proxy", "--metrics-bind-address", "0.0.0.0:10251"], None, 10251),
        (["kube-proxy", "--metrics-bind-address=0.0.0.0"], None, 10249),
        (["kube-proxy"], None, 10249),
    ],
)
def test_port_of_kube_proxy_s_metrics(arguments: list[str], text: str | None, port: int) -> None:
    assert agent.metrics_port(arguments, text) == port
