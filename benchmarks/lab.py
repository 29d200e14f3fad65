"""On a lab that is up: the read-level suite, and the facts of a node against pytest-testinfra reading the same by the same way.

What a facts document holds of a node is read by testinfra as its users write it: its modules where it has one for a value, commands where
it has none. Pods' network namespaces are left out on both sides, and of testinfra's the kernel's clock, which no command tells.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import run
from benchmarks.table import Row, spread
from pytest_k8snet.access.base import Access, Deadline
from pytest_k8snet.access.pod import PodAccess
from pytest_k8snet.access.probes import NoProbes, ProbeSettings, start_probes
from pytest_k8snet.agent.agent import BIRD_SOCKETS, CILIUM_SOCKET, FLANNEL_FILE, SYSCTL_DIRECTORIES, TOOLS, is_of_interest
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.inventory import read_cluster
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.expect.profile import load_profiles
from pytest_k8snet.expect.resolve import resolve
from pytest_k8snet.measure.facts import HOST_KEYS, UPLINK_KEYS

PROFILES = ("lab", "ipvs", "native", "tuned-node")
RUN_ID = "benchmark"
_COUNTERS = (
    "/proc/stat",
    "/proc/net/softnet_stat",
    "/proc/net/dev",
    "/proc/net/stat/nf_conntrack",
    "/proc/net/stat/arp_cache",
    "/proc/net/stat/ndisc_cache",
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a node."""

    node: str
    address: str
    sysctls: tuple[str, ...]
    peers: dict[str, tuple[str, bool]]


def rows(name: str, folder: Path, times: int) -> Iterator[Row]:
    """Measure on the lab called `name`."""
    status = subprocess.run(["k8snet", "lab", "kubeconfig", "--name", name], capture_output=True, text=True, check=True)
    kubeconfig = Path(status.stdout.strip())
    yield from suite(kubeconfig, folder, times)
    api = Api.from_kubeconfig(str(kubeconfig), learn=lambda values: None)
    cluster = read_cluster(api)
    question = _question(cluster)
    yield from _by_exec(api, cluster, question, kubeconfig, times)
    yield from _by_ssh(cluster, question, kubeconfig.parent / "ssh/config", times)
    api.close()


def suite(kubeconfig: Path, folder: Path, times: int) -> Iterator[Row]:
    """Run the read-level suite through probe pods, and by ssh."""
    ssh = kubeconfig.parent / "ssh/config"
    for access, more in (("pod", ()), ("ssh", (f"--k8snet-ssh-config={ssh}",))):
        taken = []
        for _ in range(times):
            line = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                f"--rootdir={folder}",
                f"--junitxml={folder / 'junit.xml'}",
            ]
            line += [f"--k8snet-kubeconfig={kubeconfig}", f"--k8snet-access={access}", *more, "--k8snet-level=read"]
            cost = run([*line, *(f"--k8snet-profile={profile}" for profile in PROFILES)], folder)
            if cost.status != 0:
                raise SystemExit(f"{' '.join(line)}: {cost.out}")
            taken.append(cost.wall_s)
        yield Row(
            f"read-level suite on the 3-node lab, access {access}",
            spread(taken, "s"),
            "<= 10 s",
            "pytest started and ended, JUnit included",
        )


def _question(cluster: Cluster) -> Question:
    node, *peers = cluster.nodes
    assert node.internal_ip is not None
    keys = dict.fromkeys([*HOST_KEYS, *resolve(load_profiles(list(PROFILES)), cluster).sysctl_keys(), *UPLINK_KEYS])
    addresses = {peer.name: (peer.pod_cidrs[0].replace(".0/24", ".2"), False) for peer in peers}
    return Question(node.name, node.internal_ip, tuple(keys), addresses)


def _by_exec(api: Api, cluster: Cluster, question: Question, kubeconfig: Path, times: int) -> Iterator[Row]:
    if shutil.which("kubectl") is None:
        yield Row("facts of a node by kubectl exec", "not measured", ">= 20 times", "there is no kubectl here")
        return
    with _probes(api, cluster, question.node) as probes:
        probe = probes[question.node]
        where = f"kubectl://{probe.host_pod}?namespace={probe.namespace}&container=probe"
        yield from _compare(
            "kubectl exec",
            question,
            lambda: PodAccess(api, probes),
            lambda: _host(where, kubeconfig=str(kubeconfig)),
            "/proc/1/root",
            times,
        )


def _by_ssh(cluster: Cluster, question: Question, config: Path, times: int) -> Iterator[Row]:
    from pytest_k8snet.access.ssh import SshAccess
    from pytest_k8snet.access.ssh_config import SshConfig
    from pytest_k8snet.options import SETTINGS, Settings

    values: dict[str, Any] = {setting.field: setting.default for setting in SETTINGS}
    settings = Settings(**{**values, "ssh_config": str(config), "access": "ssh"}, sources={})
    none = NoProbes(cluster.nodes).wait(Deadline.after(1.0))
    where = f"paramiko://{question.node}"
    yield from _compare(
        "ssh", question, lambda: SshAccess(SshConfig(settings), cluster, none), lambda: _host(where, ssh_config=str(config)), "", times
    )


def _compare(
    way: str, question: Question, open_access: Callable[[], Access], open_host: Callable[[], Any], root: str, times: int
) -> Iterator[Row]:
    """Yield how the two compare when each opens its connection first, and when each has it: a run opens it once a node."""
    taken: dict[str, tuple[list[float], list[float]]] = {"a connection is opened": ([], []), "the connection is open": ([], [])}
    commands = 0
    for number in range(times + 1):
        access = host = None
        for when in taken:
            started = time.perf_counter()
            access = access or open_access()
            facts = _ask(access, question)
            own_s = time.perf_counter() - started
            started = time.perf_counter()
            host = host or open_host()
            found = Reading(host, question, root)
            found.read()
            their_s = time.perf_counter() - started
            found.agree(facts)
            commands = found.commands
            if number > 0:  # the first fills caches
                taken[when][0].append(own_s)
                taken[when][1].append(their_s)
        if access is not None:
            access.close()
    for when, (ours, theirs) in taken.items():
        ratio = statistics.median(theirs) / statistics.median(ours)
        yield Row(
            f"facts of a node by {way}, against pytest-testinfra, {when}",
            f"{ratio:.0f} times as fast",
            ">= 20 times",
            f"one round trip {spread(ours, 's', 2)}; testinfra's {commands} commands {spread(theirs, 's', 1)}",
        )


def _ask(access: Access, question: Question) -> dict[str, Any]:
    params = {
        "role": "host",
        "sysctls": question.sysctls,
        "uplink_ip": question.address,
        "peers": question.peers,
        "existing_pods": 0,
        "skip_namespace": None,
    }
    facts: dict[str, Any] = access.host(question.node).request("facts", params, timeout_s=60.0)
    return facts


@contextmanager
def _probes(api: Api, cluster: Cluster, node: str) -> Iterator[Any]:
    probing = start_probes(api, cluster, ProbeSettings(run_id=RUN_ID), nodes=[node])
    try:
        yield probing.wait(Deadline.after(120.0))
    finally:
        probing.delete()


def _host(where: str, **options: str) -> Any:
    testinfra: Any = importlib.import_module("testinfra")  # it has no types
    return testinfra.get_host(where, **options)


class Reading:
    """A facts document, read by testinfra."""

    def __init__(self, host: Any, question: Question, root: str) -> None:
        self._host = host
        self._question = question
        self._root = root  # where the node's own files are
        self.commands = 0
        self.values: dict[str, Any] = {}
        backend = host.backend
        run_one = type(backend).run.__get__(backend)  # that of an earlier reading counts for itself

        def counted(command: str, *arguments: str, **more: Any) -> Any:
            self.commands += 1
            return run_one(command, *arguments, **more)

        backend.run = counted

    def read(self) -> None:
        """Read everything."""
        host, question, values = self._host, self._question, self.values
        values["links"] = json.loads(host.check_output("ip -j -d link show"))
        values["routes"] = json.loads(host.check_output("ip -j route show"))
        values["routes6"] = json.loads(host.run("ip -j -6 route show").stdout or "[]")
        uplink = json.loads(host.check_output("ip -j addr show to %s", question.address))[0]["ifname"]
        values["uplink"] = uplink
        values["sysctls"] = {key: self._sysctl(key) for key in (key.replace("{uplink}", uplink) for key in question.sysctls)}
        values["peers"] = {
            name: json.loads(host.run("ip -j route get %s", address).stdout or "[]") for name, (address, _) in question.peers.items()
        }
        values["physical"] = [name for name in host.file("/sys/class/net").listdir() if host.file(f"/sys/class/net/{name}/device").exists]
        values["neighbours"] = json.loads(host.check_output("ip -j neigh show dev %s", uplink) or "[]")
        values["uplink_is"] = [host.run("cat /sys/class/net/%s/%s", uplink, what).stdout for what in ("speed", "duplex")]
        values["persisted"] = {path: self._text(path) for path in self._sysctl_files()}
        values["running"] = {key: self._sysctl(key) for key in self._assigned(values["persisted"].values())}
        values["kernel"] = host.check_output("uname -r")
        values["modules"] = [
            *host.file("/sys/module").listdir(),
            self._text(f"{self._root}/lib/modules/{values['kernel']}/modules.builtin"),
        ]
        values["counters"] = {path: host.run("cat %s", path).stdout for path in _COUNTERS}
        values["log"] = host.run("dmesg").stdout
        values["tools"] = {tool: host.exists(tool) for tool in TOOLS}
        values["mode"] = self._get("/proxyMode")
        values["configz"] = self._get("/configz")
        values["metrics"] = self._get("/metrics")
        values["livez"] = self._get("/livez", port=10256)
        values["daemons"] = {path: host.file(self._root + path).exists for path in (*BIRD_SOCKETS, CILIUM_SOCKET, FLANNEL_FILE)}
        values["kubelet"] = host.run("pgrep -a kubelet").stdout
        values["kubelet_files"] = [self._text(self._root + path) for path in re.findall(r"--config=(\S+)", values["kubelet"])]
        values["resolv"] = self._text(f"{self._root}/etc/resolv.conf")
        values["nginx"] = host.run("pgrep -a nginx").stdout
        # testinfra's own process module asks ps for start times, which fails on a kernel that does not tell when it was booted.
        values["processes"] = host.run("pgrep -a kube-proxy").stdout
        values["listening"] = host.socket.get_listening_sockets()
        values["ip_vs"] = self._text("/proc/net/ip_vs") if host.file("/proc/net/ip_vs").exists else None
        values["legacy"] = [
            host.run(f"{tool} -t nat").stdout for tool in ("iptables-legacy-save", "ip6tables-legacy-save") if self._has_table(tool)
        ]
        values["nft"] = host.run("nft -j list tables").stdout if host.file("/sys/module/nf_tables").exists else None
        values["qdiscs"] = json.loads(host.check_output("tc -j qdisc show"))
        values["conntrack"] = {name: self._sysctl(f"net.netfilter.nf_conntrack_{name}") for name in ("count", "max", "buckets")}
        values["cpuinfo"] = self._text("/proc/cpuinfo")
        values["vendor"] = [host.run("cat /sys/class/dmi/id/%s", name).stdout for name in ("sys_vendor", "product_name")]
        values["congestion_control"] = self._sysctl("net.ipv4.tcp_congestion_control")

    def agree(self, facts: dict[str, Any]) -> None:
        """Stop when the two have not read the same: a comparison would mean nothing."""
        values = self.values
        own = facts["host"]
        pairs = {
            "links": (_mtus(values["links"]), _mtus(own["links"])),
            "routes": (sorted(route["dst"] for route in values["routes"]), sorted(route["dst"] for route in own["routes"])),
            "sysctls": (values["sysctls"], own["sysctls"]),
            "modules": ({*facts["modules"]} - self._modules(), set()),
            "tools": ({tool for tool, found in values["tools"].items() if found}, _found(facts["tools"])),
            "running": ({key: values["running"].get(key) for key in facts["running"]}, facts["running"]),
            "mode": (values["mode"].strip(), facts["kube_proxy"]["mode"]),
            "qdiscs": (_kinds(values["qdiscs"]), _kinds(facts["qdiscs"])),
            "kernel": (values["kernel"].strip(), facts["kernel"]),
        }
        for what, (theirs, ours) in pairs.items():
            if theirs != ours:
                raise SystemExit(f"{what}: testinfra read {theirs}, the agent {ours}")

    def _sysctl(self, key: str) -> str | None:
        # testinfra's own sysctl module turns numbers into int and fails on keys that the kernel has not.
        result = self._host.run("sysctl -n %s", key)
        return " ".join(result.stdout.split()) if result.rc == 0 else None

    def _text(self, path: str) -> str:
        text: str = self._host.file(path).content_string
        return text

    def _sysctl_files(self) -> Iterator[str]:
        for directory in SYSCTL_DIRECTORIES:
            folder = self._host.file(self._root + directory)
            if folder.exists:
                yield from (f"{self._root}{directory}/{name}" for name in folder.listdir() if name.endswith(".conf"))

    def _assigned(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield the keys that files of sysctl.d assign, of those that the facts have."""
        asked = set(self._question.sysctls)
        for text in texts:
            named = [line.partition("=")[0].strip() for line in text.splitlines() if "=" in line and line[0] not in "#;"]
            keys = {name.lstrip("-").replace("/", ".") for name in named}
            yield from sorted(key for key in keys if is_of_interest(key, asked))

    def _modules(self) -> set[str]:
        *loaded, built_in = self.values["modules"]
        names = {line.rsplit("/", 1)[-1].partition(".ko")[0].replace("-", "_") for line in built_in.splitlines()}
        return {*loaded, *names}

    def _get(self, path: str, port: int = 10249) -> str:
        url = f"http://127.0.0.1:{port}{path}"
        text: str = self._host.run("curl -s %s", url).stdout
        return text or str(self._host.run("python3 -c %s", f"import urllib.request as r; print(r.urlopen('{url}').read().decode())").stdout)

    def _has_table(self, tool: str) -> bool:
        names = "/proc/net/ip6_tables_names" if tool.startswith("ip6") else "/proc/net/ip_tables_names"
        return "nat" in str(self._host.run("cat %s", names).stdout)


def _mtus(links: list[dict[str, Any]]) -> dict[str, int]:
    """Return the MTUs of devices but for the ends of pods, which come and go."""
    return {link["ifname"]: link["mtu"] for link in links if not link["ifname"].startswith("veth")}


def _found(tools: dict[str, Any]) -> set[str]:
    return {name for name, where in tools.items() if where != "missing"}


def _kinds(qdiscs: list[dict[str, Any]]) -> dict[str, str]:
    return {qdisc["dev"]: qdisc["kind"] for qdisc in qdiscs if not qdisc["dev"].startswith("veth")}
