"""The program that runs in the host namespaces of a node and in its probe pod.

It is one file of the standard library only, sent over stdin by a constant bootstrap, so that any image with python3 (3.7 or later) will do.
Measurements that send packets bring programs of their own, the other files of this folder: sent when the first of their operations is asked
for, they import what they share from this one.

It reads one JSON object a line from stdin, ``{"id": 1, "op": "facts", "params": {...}}``, and writes one a line to stdout:
``{"id": 1, "result": ...}`` or ``{"id": 1, "error": {"kind": "timeout" | "tool" | "request" | "failed", "message": "..."}}``. Its
first line is ``{"ready": 1, "python": "3.11.2"}``; empty lines are heartbeats that keep idle connections open. It ends when stdin ends.

Operations and their parameters:

- ``facts``: everything checks want to know, in one round trip, and which tools there were. ``role`` (host, pod), ``sysctls`` (keys;
  ``{uplink}`` in one stands for the uplink's name), ``uplink_ip``, ``peers`` (name to address and whether it is a running pod's),
  ``second_peers`` (the same by the other address family),
  ``existing_pods`` (how many at most), ``skip_namespace``. What large nodes have thousands of and nobody judges one by one is cut, with a
  count of the whole: routes of the main table, chains whose names are hashes
- ``ipvs``: the text of /proc/net/ip_vs without its counters of connections, whether kube-ipvs0 is there, kube-proxy's mode and /configz
  (``uplink_ip``)
- ``run``: ``argv``, ``timeout_s``, ``stdin``; gives exit_status, stdout, stderr, duration_s
- ``counters``: ``device`` (or none); its rx_bytes and tx_bytes, and processors, their ticks by what they were spent on
- ``activity``: the counters that facts hold a first reading of: processor time, softnet, devices, connection tracking, kernel log
  (``uplink_ip``)
- ``iperf3_server``: ``address``, ``ports`` (first, last), ``max_s``; starts a server for one test, gives pid and port
- ``iperf3_client``: ``address``, ``port``, ``seconds``, ``omit_s``, ``streams``, ``bitrate_bps`` (of all of them), ``udp``; gives
  exit_status and iperf3's JSON
- ``stop``: ``pid`` of a server started before; gives its exit_status and output
- ``load``: ``name``, ``source``; takes in such a program, whose operations are called ``<name>.<operation>`` from then on

Reading changes nothing on the node: a tool that would load a kernel module by being asked is not asked before it is seen to be there.
"""
# pathlib and contextlib are not imported on nodes: starting fast matters there.
# ruff: noqa: PTH110, PTH112, PTH115, PTH116, PTH121, PTH123, PTH207, PTH208, SIM105

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import sys
import time
from stat import S_ISREG

TYPE_CHECKING = False  # typing is not imported on nodes: starting fast matters there
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    HttpGet = Callable[[str, int, str], "tuple[int, str]"]

PROTOCOL = 1
AGENT = "pytest_k8snet.agent.agent"  # what this is called where it is not sent
SYSCTLS = "/proc/sys/"
HOST_ROOT = "/proc/1/root"  # the node's own files; the probe pod shares the node's process namespace
TOOLS = (
    "ip",
    "tc",
    "nft",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
    "iptables-nft-save",
    "ip6tables-nft-save",
    "bridge",
)  # that facts are read with
TOOL_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
HEARTBEAT_S = 20.0
USES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # columns of /proc/stat; guest time is in user and nice
TCP_CONGESTION = 13  # linux/tcp.h
CLONE_NEWNET = 0x40000000
MOST_ROUTES = 100  # of the node's main table: natively routed clusters have one there for every node
MOST_NEIGHBOURS = 100  # learned ones: flat segments have one for every machine
MOST_PERMANENT = 1000  # set by somebody
MOST_CHAINS = 50  # of each kind, KUBE-SVC- and the like: thousands of Services make tens of thousands
VIRTUAL_DMI = r"QEMU|KVM|VMware|VirtualBox|Xen|Virtual Machine|OpenStack|Google Compute|Amazon EC2|Droplet|vServer"
# What is kept of kube-proxy's command line and of its /configz.
KEPT_FLAGS = ("--config", "--proxy-mode", "--hostname-override", "--cleanup", "--proxy-args-file")
KEPT_METRICS = r"(kubeproxy_sync_proxy_rules_\w*(?:timestamp_seconds|failures_total)|process_start_time_seconds)(?:\{([^}]*)\})? (\S+)"
ARP_CACHE, NDISC_CACHE = "/proc/net/stat/arp_cache", "/proc/net/stat/ndisc_cache"
# Calico has a BIRD of its own for each address family, as BIRD had before 2.0.
BIRD_SOCKETS = (
    "/run/calico/bird.ctl",
    "/run/calico/bird6.ctl",
    "/run/bird/bird.ctl",
    "/run/bird/bird6.ctl",
    "/run/bird.ctl",
    "/run/bird6.ctl",
)
FLANNEL_FILE = "/run/flannel/subnet.env"
NAMESPACE_FILES = ("/run/netns", "/run/docker/netns")
CILIUM_SOCKET = "/run/cilium/cilium.sock"
# What the kubelet is told of names: by flags, which win, or in its files.
KUBELET_FLAGS = {"--cluster-dns": "clusterDNS", "--cluster-domain": "clusterDomain", "--resolv-conf": "resolvConf"}
KUBELET_FILES = ("--config", "--config-dir")
# MicroK8s has kubelet and kube-proxy in one process, kubelite, which reads their arguments from files (cmd/kubelite/app of its patches).
KUBELITE = "kubelite"
KUBELITE_FILE = "/var/snap/microk8s/current/args/kubelet"
# Of nginx.conf: directives that a controller writes before its first server, and for how much of the file.
NGINX_DIRECTIVES = ("worker_connections", "keepalive_timeout", "keepalive_requests", "large_client_header_buffers")
NGINX_UPSTREAM = ("keepalive", "keepalive_timeout", "keepalive_requests", "keepalive_time")
NGINX_FILE = "/etc/nginx/nginx.conf"
NGINX_BYTES = 1 << 18
RESOLV_BYTES = 1 << 16
CONFIG_BYTES = 1 << 16
PROXY_PORT = 10249  # where kube-proxy tells its mode by default
MOST_NGINX = 5
KEPT_SETTINGS = ("mode", "ipvs", "ipvsconfiguration", "syncperiod", "excludecidrs", "conntrack", "linux")
# Of which the facts tell whether they are there; hundreds of others are nobody's concern.
NETWORK_MODULES = (
    r"(br_netfilter|bridge|nf_.*|nft_.*|ip_vs.*|ip_tables|ip6_tables|iptable_.*|ip6table_.*|ip_set.*|xt_.*|vxlan|geneve|ipip|ip_gre|"
    r"wireguard|dummy|veth|sch_.*|cls_.*|act_.*|tcp_.*|macvlan|ipvlan|bonding|8021q)$"
)
TABLE_FULL = re.compile(r"nf_conntrack: table full")
MOST_TIMES = 100  # of messages in the kernel log
TIMEX_STATUS = {0x40: "unsynchronised", 0x1000: "clock hardware fault"}  # STA_UNSYNC, STA_CLOCKERR of linux/timex.h
LINKS_AND_ROUTES, NEIGHBOURS = ("link show", "route show"), "neigh show"  # asked of ip -j -d
IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
INCOMPATIBLE = "incompatible, use 'nft' tool"  # iptables-nft-save's word for a table with rules that only nft understands
HIDDEN_CHAINS = ": the table nat has KUBE chains, and others that iptables cannot read"
ANY_ERROR = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, SyntaxError, TypeError, ValueError)

SYSTEMD = "/run/systemd/system"  # there when systemd started the machine (sd_booted(3))
PROCPS_FILE = "/etc/sysctl.conf"  # systemd-sysctl reads it only by a link in a folder; sysctl --system, which starts others, does last
# In the order of precedence for files of the same name; all files are then applied in the order of their names.
SYSCTL_DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")


class Failed(Exception):  # noqa: N818 - it is the word in the answer
    """What was asked could not be done; `kind` is for programs, the message for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# ---- programs


def find_tool(name: str) -> tuple[str, str | None]:
    """Return the path of a program, and the root to run it in when only the node has it."""
    for directory in TOOL_PATH:
        path = directory + "/" + name
        if os.access(path, os.X_OK):
            return path, None
    for directory in TOOL_PATH:
        path = directory + "/" + name
        if os.access(HOST_ROOT + path, os.X_OK):
            return path, HOST_ROOT
    raise Failed("tool", name + (": not on the node" if on_node() else ": neither in the probe image nor on the node"))


def on_node() -> bool:
    """Whether this runs in the node's own root, and not in a pod's image."""
    try:
        return os.path.samefile("/", HOST_ROOT)
    except OSError:
        return False


def tools() -> dict[str, Any]:
    """Return of each tool its path and whether the image or the node has it, or ``missing``."""
    found: dict[str, Any] = {}
    here = "node" if on_node() else "image"
    for name in TOOLS:
        try:
            path, root = find_tool(name)
            found[name] = {"path": path, "from": here if root is None else "node"}
        except Failed:
            found[name] = "missing"
    return found


def start(argv: Sequence[str], stdin: Any = None) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, with stdout and stderr as pipes."""
    import subprocess

    if not argv:
        raise Failed("request", "no command")
    path, root = (argv[0], None) if "/" in argv[0] else find_tool(argv[0])

    def enter() -> None:
        if root is not None:
            os.chroot(root)
            os.chdir("/")

    try:
        return subprocess.Popen(
            [path, *argv[1:]],
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=enter if root is not None else None,
            env=dict(os.environ, LC_ALL="C"),
        )
    except OSError as error:
        raise Failed("tool", argv[0] + ": " + str(error.strerror)) from error


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and everything it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass
    process.wait()


def run(argv: Sequence[str], timeout_s: float = 20.0, stdin: str | None = None) -> tuple[int, str, str]:
    """Run a program to its end and return its exit status, stdout and stderr; kill it when it takes too long."""
    import subprocess

    process = start(argv, stdin)
    data = stdin.encode() if stdin is not None else None
    until = time.monotonic() + timeout_s
    while True:
        try:
            out, err = process.communicate(data, timeout=max(0.0, min(HEARTBEAT_S, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            data = None  # what was given is kept by communicate
            if time.monotonic() < until:
                heartbeat()
                continue
            kill(process)
            process.communicate()
            raise Failed("timeout", f"{' '.join(argv)[:200]}: no end within {timeout_s:g} s") from None
        return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def output(argv: Sequence[str], timeout_s: float = 20.0) -> str:
    """Return what a program prints; fail when it does."""
    status, out, err = run(argv, timeout_s)
    if status != 0:
        raise Failed("failed", f"{' '.join(argv)}: exit status {status}: {(err.strip() or out.strip())[-500:]}")
    return out


def in_child(function: Callable[[], Any], timeout_s: float) -> Any:
    """Call `function` in a forked child, which may change its root or its namespaces, and return its JSON value."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            answer = {"result": function()}
        except ANY_ERROR as error:
            answer = {"error": str(error) or repr(error)}
        except Failed as error:
            answer = {"error": str(error)}
        try:
            write_all(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    data = b""
    until = time.monotonic() + timeout_s
    try:
        while True:
            ready = select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]
            chunk = os.read(reader, 65536) if ready else None
            if chunk is None:
                raise Failed("timeout", f"no answer within {timeout_s:g} s")
            if not chunk:
                break
            data += chunk
    finally:
        os.close(reader)
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
        os.waitpid(pid, 0)
    if not data:
        raise Failed("failed", "a child of the agent ended without an answer")
    parsed = json.loads(data.decode())
    if "error" in parsed:
        raise Failed("failed", parsed["error"])
    return parsed["result"]


def in_root_of(pid: str, function: Callable[[], Any], timeout_s: float) -> Any:
    """Call `function` where paths and links are those of a process, and return its JSON value; in a child where they are not here."""
    if same_root(pid):
        return function()

    def enter() -> Any:
        os.chroot(f"/proc/{pid}/root")
        os.chdir("/")
        return function()

    return in_child(enter, timeout_s)


def same_root(pid: str) -> bool:
    """Whether a process has the root and the mounts of this one."""
    try:
        return all(os.path.samefile(f"/proc/self/{what}", f"/proc/{pid}/{what}") for what in ("root", "ns/mnt"))
    except OSError:
        return False


def in_threads(targets: Sequence[Mapping[str, Any]], ask: Callable[[Mapping[str, Any]], Any], most: int = 32) -> dict[str, Any]:
    """Call `ask` for all `targets`, at most `most` at the same time; return its answers by the targets' ``key``."""
    import threading

    answers: dict[str, Any] = {}
    left = iter(targets)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                target = next(left, None)
            if target is None:
                return
            answers[target["key"]] = ask(target)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(most, len(targets)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class InThread:
    """What answers in a thread of its own: `run` is to end as soon as `wake` can be read, and to close both ends of it."""

    def start(self) -> None:
        """Begin."""
        import threading  # not before it is needed

        self.wake, self.waker = socket.socketpair()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End it; it may be called twice."""
        try:
            self.waker.send(b"x")
        except OSError:
            pass  # it has ended
        self.thread.join(5.0)

    def run(self) -> None:
        """Answer until it is woken."""
        raise NotImplementedError


def client_socket(family: int) -> socket.socket:
    """Return a TCP socket to connect with, from a port on which a server may be begun all the same.

    Where ip_local_port_range begins at 1024, that may be the port of one of ours; the kernel refuses to listen on it until a minute after
    the connection has ended, unless both sockets let their port be used again (SO_REUSEADDR, socket(7)).
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def connect_to(address: str, port: int, timeout_s: float) -> socket.socket:
    """Return a connection to the first address of a host, given by name or address, that takes one."""
    wrong = OSError(f"{address} has no address")
    for family, _, _, _, place in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM):
        sock = client_socket(family)
        sock.settimeout(timeout_s)
        try:
            sock.connect(place)
        except OSError as error:
            sock.close()
            wrong = error
        else:
            return sock
    raise wrong


def line_of(sock: socket.socket, until: float) -> str:
    """Return the first line that a connection gives before the time `until`; raise `ValueError` when it ends without one."""
    data = b""
    while b"\n" not in data:
        sock.settimeout(max(0.001, until - time.monotonic()))
        part = sock.recv(4096)
        if not part:
            raise ValueError("the connection ended")
        data += part
    return data.split(b"\n", 1)[0].decode()


def said(error: OSError) -> str:
    """Say in the kernel's words what went wrong with a socket."""
    if isinstance(error, socket.timeout):
        return "timed out"
    return os.strerror(error.errno) if error.errno else str(error)


# ---- files


def read(path: str) -> str:
    """Return the text of a file."""
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def read_or_none(path: str) -> str | None:
    """Return the text of a file, None when it cannot be read."""
    try:
        return read(path)
    except OSError:
        return None


def read_regular(path: str, most: int) -> str | None:
    """Return the beginning of a file whose path somebody in a pod may have chosen, None when it cannot be read or is no regular file.

    Opening a pipe would never end, and opening a device may do something.
    """
    try:
        found = os.open(path, os.O_PATH)
        try:
            if not S_ISREG(os.fstat(found).st_mode):
                return None
            with open(f"/proc/self/fd/{found}", errors="replace") as file:
                return file.read(most)
        finally:
            os.close(found)
    except OSError:
        return None


def read_number(path: str) -> int | None:
    """Return the number in a file, None when there is none."""
    try:
        return int(read(path))
    except (OSError, ValueError):
        return None


def sysctl_path(key: str) -> str:
    """Return the file of a sysctl: dots and slashes change places, as a device's name may hold a dot."""
    return SYSCTLS + key.translate({ord("."): "/", ord("/"): "."})


def read_sysctl(key: str) -> str | None:
    """Return a sysctl's value with single spaces, None when the kernel has none of that name here."""
    text = read_or_none(sysctl_path(key))
    return None if text is None else " ".join(text.split())


# ---- network namespaces


def ip_batch(lines: Sequence[str]) -> tuple[list[Any], str]:
    """Run several ``ip -j -d`` commands in one process; return what they print, in their order without the failed ones, and the errors."""
    _, out, err = run(["ip", "-j", "-d", "-force", "-batch", "-"], stdin="\n".join(lines) + "\n")
    return parse_documents(out), err.strip()


def ip_show(lines: Sequence[str], gets: Sequence[str] = ()) -> tuple[dict[str, Any], list[Any], str]:
    """Ask ``ip`` for several things at once. Return what it showed by line, without those that failed, what for `gets`, and the errors.

    `gets` come first, so that the numbers of lines in the errors are theirs.
    """
    documents, errors = ip_batch([*gets, *lines])
    failed = {int(number) - len(gets) for number in re.findall(r"Command failed -:(\d+)", errors)}
    shown = [line for number, line in enumerate(lines, 1) if number not in failed]
    if len(documents) < len(shown):
        raise Failed("failed", "ip -j -batch: " + (errors or "unexpected output"))
    split = len(documents) - len(shown)
    return dict(zip(shown, documents[split:])), documents[:split], errors  # noqa: B905 - Python 3.7


def parse_documents(text: str) -> list[Any]:
    """Return the JSON documents that follow each other in `text`."""
    decoder = json.JSONDecoder()
    documents: list[Any] = []
    position = 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if position == len(text):
            return documents
        document, position = decoder.raw_decode(text, position)
        documents.append(document)


def namespace_facts(keys: Iterable[str]) -> dict[str, Any]:
    """Return links, routes, sysctls and congestion control of the network namespace this runs in."""
    shown, _, errors = ip_show(LINKS_AND_ROUTES)
    return namespace_of(shown, errors, keys)


def namespace_of(shown: Mapping[str, Any], errors: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return the same by what `ip_show` gave."""
    links, routes = [shown_by(shown, line, errors) for line in LINKS_AND_ROUTES]
    if has_ipv6(read_or_none("/proc/net/if_inet6") or ""):
        routes = routes + json.loads(output(["ip", "-j", "-6", "route", "show"]) or "[]")
    return network(links, routes, {key: read_sysctl(key) for key in keys}, congestion_control())


def shown_by(shown: Mapping[str, Any], line: str, errors: str) -> Any:
    """Return what ``ip`` printed for a line; fail when it did not."""
    if line not in shown:
        raise Failed("failed", f"ip -j {line}: {errors or 'no output'}")
    return shown[line]


def network(
    links: Iterable[Mapping[str, Any]], routes: Iterable[Mapping[str, Any]], sysctls: Mapping[str, str | None], congestion: str | None
) -> dict[str, Any]:
    """Return what is told of a network namespace."""
    return {
        "links": [trim_link(link) for link in links if link.get("ifname")],
        "routes": [hop for route in routes for hop in flat_route(route)],
        "sysctls": dict(sysctls),
        "congestion_control": congestion,
    }


def has_ipv6(if_inet6: str) -> bool:
    """Whether /proc/net/if_inet6 has an address that is not link-local or loopback (scopes 20, 10)."""
    return any(line.split()[3] not in ("20", "10") for line in if_inet6.splitlines())


def trim_link(link: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of ``ip -j -d link`` what says what a device is; a node with hundreds of pods has hundreds of them."""
    keep = (
        "ifindex",
        "ifname",
        "flags",
        "mtu",
        "qdisc",
        "master",
        "link",
        "operstate",
        "link_type",
        "address",
        "link_index",
        "link_netnsid",
    )
    trimmed = {key: link[key] for key in keep if key in link}
    info = link.get("linkinfo", {})
    if "info_kind" in info:
        trimmed["linkinfo"] = {"info_kind": info["info_kind"]}
        if info["info_kind"] not in ("bridge", "bond", "veth"):
            trimmed["linkinfo"]["info_data"] = info.get("info_data", {})
    return trimmed


def flat_route(route: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one route per next hop; none for the link-local and multicast routes that every IPv6 device has."""
    if str(route.get("dst", "")).startswith(("fe80:", "ff00:")):
        return []
    hops = [hop for hop in route.get("nexthops", ()) if "dev" in hop]
    rest = {key: value for key, value in route.items() if key != "nexthops"}
    return [dict(rest, **hop) for hop in hops] or [rest]


def congestion_control() -> str | None:
    """Return what a fresh TCP socket really uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        name = sock.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16)
    return name.split(b"\0")[0].decode() or None


# ---- the node


def facts(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``facts``."""
    if params.get("role") == "pod":
        return namespace_facts(sysctl_keys(params.get("sysctls", ()), None))
    uplink_ip, peers = params.get("uplink_ip"), asked_peers(params)
    if uplink_ip and not is_address(uplink_ip):
        raise Failed("request", f"{uplink_ip!r} is no address of an uplink")
    holders = ["addr show to " + uplink_ip] if uplink_ip else []
    shown, ways, ip_errors = ip_show([*LINKS_AND_ROUTES, NEIGHBOURS, *holders], ["route get " + address for address in askable(peers)])
    uplink = holder(shown_by(shown, holders[0], ip_errors)) if holders else None
    keys = sysctl_keys(params.get("sysctls", ()), uplink)
    own = few_routes(namespace_of(shown, ip_errors, keys))
    errors: dict[str, str] = {}

    def part(name: str, function: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return function()
        except Failed as error:
            errors[name] = str(error)
        except ANY_ERROR as error:
            errors[name] = repr(error)
        return otherwise

    nft = nft_tables()
    built_in = built_in_modules()
    proxy = kube_proxy(uplink_ip)
    persisted = part(
        "persisted", lambda: [item for item in in_root_of("1", persisted_on_node, 20.0) if is_of_interest(item["key"], keys)], []
    )
    pods = part("existing_pods", lambda: running_pods(params.get("skip_namespace")), {})
    return {
        "agent": "python",
        "tools": tools(),
        "host": own,
        "uplink": uplink,
        "physical": physical_devices(uplink),
        "persisted": persisted,
        "running": running_sysctls(persisted),
        "modules": loaded_modules(os.listdir("/sys/module"), built_in or ""),
        "modules_built_in": built_in is not None,
        "kube_proxy": dict(
            proxy,
            processes=kube_proxy_processes(proxy["listening"]),
            configz=kube_proxy_configz(proxy),
            at_s=time.time() if proxy["address"] else None,
            livez=kube_proxy_livez(proxy),
            **kube_proxy_metrics(proxy),
        ),
        "ipvs": part("ipvs", lambda: without_real_servers(ipvs_table()), {"loaded": True, "table": None}),
        "iptables": {"legacy": iptables_legacy(), "nft": iptables_nft(nft)},
        "nft": nft,
        "qdiscs": part("qdiscs", lambda: json.loads(output(["tc", "-j", "qdisc", "show"]) or "[]"), []),
        "conntrack": conntrack(),
        "neighbours": neighbours(read_or_none(ARP_CACHE)),
        "neighbours_ipv6": neighbours(read_or_none(NDISC_CACHE)),
        "neighbour_entries": part(
            "neighbour_entries", lambda: neighbour_entries(uplink, shown_by(shown, NEIGHBOURS, ip_errors), own["routes"]), None
        ),
        "activity": read_activity(time.monotonic(), read_or_none, kernel_log(), physical_devices(uplink)),
        "clock": part("clock", clock, None),
        "uplink_speed_mbit": link_speed(uplink),
        "speeds_mbit": {name: speed for name in physical_devices(None) for speed in [link_speed(name)] if speed is not None},
        "uplink_duplex": link_duplex(read_or_none(f"/sys/class/net/{uplink}/duplex")),
        "virtual": virtual_reason(uplink, read_or_none, os.path.exists),
        "peer_routes": part("peer_routes", lambda: read_peer_routes(peers, ways, ip_errors), []),
        "existing_pods": part("existing_pods", lambda: existing_pods(keys, pods, int(params.get("existing_pods", 0))), []),
        "existing_pods_running": len(pods),
        "forwarding": part("forwarding", lambda: forwarding(own["links"]), {}),
        "bgp": part("bgp", bgp, []),
        "flannel": read_or_none(HOST_ROOT + FLANNEL_FILE),
        "cilium": part("cilium", cilium, None),
        "kubelet": part("kubelet", kubelet, None),
        "nginx": part("nginx", nginx, []),
        "kernel": os.uname().release,
        "errors": errors,
    }


def sysctl_keys(keys: Iterable[str], uplink: str | None) -> list[str]:
    """Return keys with the uplink's name in the place for it."""
    return [key.replace("{uplink}", uplink.replace(".", "/") if uplink else "default") for key in keys]


def few_routes(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the node's own namespace with no more routes than anybody looks at, and how many there are.

    Those that tell the node's subnets and its gateway come first.
    """
    routes = sorted(namespace["routes"], key=lambda route: not ("prefsrc" in route or route.get("dst") == "default"))
    return dict(namespace, routes=routes[:MOST_ROUTES], routes_total=len(routes))


def find_uplink(address: str) -> str | None:
    """Return the device that holds `address`."""
    return holder(json.loads(output(["ip", "-j", "addr", "show", "to", address]) or "[]"))


def holder(found: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the device in the answer of ``ip -j addr show to``."""
    # kube-proxy puts external addresses of Services, which may be the node's, on kube-ipvs0 as well.
    names = [device["ifname"] for device in found if device.get("ifname") not in (None, "kube-ipvs0")]
    return names[0] if names else None


def physical_devices(uplink: str | None) -> list[str]:
    """Return the devices that are hardware to this kernel, and the uplink whatever it is."""
    found = {name for name in os.listdir("/sys/class/net") if os.path.exists(f"/sys/class/net/{name}/device")}
    if uplink:
        found.add(uplink)
    return sorted(found)


def link_speed(device: str | None) -> int | None:
    """Return the speed (Mbit/s) the driver claims."""
    speed = read_number(f"/sys/class/net/{device}/speed") if device else None
    return speed if speed and speed > 0 else None


def link_duplex(text: str | None) -> str | None:
    """Return full or half, None where the driver does not say."""
    word = (text or "").strip()
    return word if word in ("full", "half") else None


def virtual_reason(uplink: str | None, text_of: Callable[[str], str | None], exists: Callable[[str], bool]) -> str | None:
    """Return what makes this machine a virtual one, None on bare metal. A virtual NIC's speed is fiction."""
    vendor = (text_of("/sys/class/dmi/id/sys_vendor") or "").strip()
    product = (text_of("/sys/class/dmi/id/product_name") or "").strip()
    if vendor == "Amazon EC2" and ".metal" in product:
        return None
    hypervisor = text_of("/sys/hypervisor/type")
    if hypervisor:
        return "/sys/hypervisor/type is " + hypervisor.strip()
    cpu = text_of("/proc/cpuinfo") or ""
    if "User Mode Linux" in cpu:
        return "/proc/cpuinfo says User Mode Linux"
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpu, re.MULTILINE):
        return "/proc/cpuinfo has the flag hypervisor" + (f" ({vendor} {product})" if vendor else "")
    if re.search(VIRTUAL_DMI, vendor + " " + product):
        return f"DMI says {vendor} {product}"
    if uplink and not exists(f"/sys/class/net/{uplink}/device"):
        for kind in ("bonding", "bridge", "brport"):
            if exists(f"/sys/class/net/{uplink}/{kind}"):
                return None
        if not exists("/proc/net/vlan/" + uplink):
            return f"the uplink {uplink} is no hardware device"
    return None


def conntrack() -> dict[str, int | None]:
    """Return size and use of the connection tracking table; None where there is none."""
    return {name: read_number("/proc/sys/net/netfilter/nf_conntrack_" + name) for name in ("count", "max", "buckets")}


def neighbours(text: str | None) -> dict[str, int]:
    """Return entries of the neighbour table and how often it was full; a line for each processor, in hexadecimal."""
    names, *lines = [line.split() for line in (text or "").splitlines()] or [[]]
    counts = [dict(zip(names, [int(word, 16) for word in line])) for line in lines]  # noqa: B905 - Python 3.7
    if not counts or "entries" not in names:
        return {}
    return {"entries": counts[0]["entries"], "table_fulls": sum(count.get("table_fulls", 0) for count in counts)}


def neighbour_entries(uplink: str | None, found: Iterable[Mapping[str, Any]], routes: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return who is behind which hardware address on the uplink, as the kernel has it; None without an uplink."""
    return None if uplink is None else few_neighbours([item for item in found if item.get("dev") == uplink], routes)


def few_neighbours(entries: Iterable[Mapping[str, Any]], routes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return of ``ip -j neigh`` the entries that have a hardware address: those that somebody set, gateways, a few that were learned."""
    gateways = {route.get("gateway") for route in routes}
    known = [{key: item[key] for key in ("dst", "lladdr", "state")} for item in entries if "lladdr" in item and "state" in item]
    permanent = [item for item in known if "PERMANENT" in item["state"]]
    learned = sorted((item for item in known if item not in permanent), key=lambda item: item["dst"] not in gateways)
    return {"total": len(known), "entries": permanent[:MOST_PERMANENT] + learned[:MOST_NEIGHBOURS]}


def built_in_modules() -> str | None:
    """Return the list of what is built into the kernel, None on a node that has none: its kernel came from elsewhere."""
    return read_or_none(f"{HOST_ROOT}/lib/modules/{os.uname().release}/modules.builtin")


def loaded_modules(loaded: Iterable[str], built_in: str) -> list[str]:
    """Return the modules that networks need and that this kernel has at work, loaded or built in.

    Those of /sys/module, which has built-in ones only when they take parameters, and of modules.builtin.
    """
    names = {line.rsplit("/", 1)[-1].split(".ko")[0].replace("-", "_") for line in built_in.splitlines()}
    return sorted(name for name in names.union(loaded) if re.match(NETWORK_MODULES, name))


# ---- what the kernel counts


def activity(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``activity``."""
    uplink_ip = params.get("uplink_ip")
    devices = physical_devices(find_uplink(uplink_ip) if uplink_ip else None)
    return read_activity(time.monotonic(), read_or_none, kernel_log(), devices)


def read_activity(at_s: float, text_of: Callable[[str], str | None], log: Mapping[str, Any], devices: Collection[str]) -> dict[str, Any]:
    """Return counters that only grow, in the texts of their files; None for what this kernel has not. Times are since the start."""
    return {
        "at_s": round(at_s, 3),
        "processor": processor_ticks(text_of("/proc/stat") or ""),
        "softnet": softnet(text_of("/proc/net/softnet_stat")),
        "devices": {name: item for name, item in device_counters(text_of("/proc/net/dev") or "").items() if name in devices},
        "conntrack": conntrack_counters(text_of("/proc/net/stat/nf_conntrack")),
        "log": dict(log),
    }


def processor_ticks(stat: str) -> dict[str, int]:
    """Return ticks of all processors together by what they were spent on, and how many processors are online."""
    found = ticks_by_processor(stat)
    return {"online": len([name for name in found if name != "cpu"]), **found.get("cpu", {})}


def ticks_by_processor(stat: str) -> dict[str, dict[str, int]]:
    """Return ticks by what they were spent on: of each processor that is online (``cpu0``), and of all together (``cpu``)."""
    lines = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    return {words[0]: {use: int(word) for use, word in zip(USES, words[1:])} for words in lines}  # noqa: B905 - python 3.7 has no strict


def softnet(text: str | None) -> dict[str, int] | None:
    """Return the first columns of softnet_stat (hexadecimal, a line a processor), summed (net/core/net-procfs.c)."""
    rows = [line.split() for line in (text or "").splitlines()]
    names = ("processed", "dropped", "time_squeeze")
    return {name: sum(int(row[column], 16) for row in rows) for column, name in enumerate(names)} if rows else None


def device_counters(text: str) -> dict[str, dict[str, int]]:
    """Return packets, errors and drops of the devices in /proc/net/dev; drops are those of the driver's ring as well."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        values = rest.split()
        if len(values) >= 12:
            columns = {"rx_packets": 1, "rx_errors": 2, "rx_dropped": 3, "tx_packets": 9, "tx_errors": 10, "tx_dropped": 11}
            found[name.strip()] = {key: int(values[column]) for key, column in columns.items()}
    return found


def conntrack_counters(text: str | None) -> dict[str, int] | None:
    """Return the columns of /proc/net/stat/nf_conntrack by name, summed: hexadecimal, a line a processor; names changed over time."""
    lines = (text or "").splitlines()
    if len(lines) < 2:
        return None
    rows = [[int(value, 16) for value in line.split()] for line in lines[1:]]
    # Each line has the same number of entries, that of the whole table.
    return {name: sum(row[column] for row in rows) for column, name in enumerate(lines[0].split()) if name != "entries"}


def kernel_log() -> dict[str, Any]:
    """Return what the kernel's log says of a full connection table."""
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return read_log([], "/dev/kmsg: " + (error.strerror or str(error)))
    records = []
    try:
        while True:
            try:
                record = os.read(descriptor, 8192)
            except BrokenPipeError:  # overwritten while it was read: the next one is there
                continue
            except BlockingIOError:
                break
            except OSError as error:
                return read_log([], "/dev/kmsg: " + (error.strerror or str(error)))
            if not record:
                break
            head, _, text = record.partition(b";")
            records.append((int(head.split(b",")[2]) / 1e6, text.decode("utf-8", "replace")))
    finally:
        os.close(descriptor)
    return read_log(records, None)


def read_log(records: Sequence[tuple[float, str]], error: str | None) -> dict[str, Any]:
    """Return of records (seconds on the log's own clock, and text) when the last one was, and when those of a full table were."""
    times = [at_s for at_s, text in records if TABLE_FULL.search(text)]
    return {"last_s": records[-1][0] if records else 0.0, "table_full": len(times), "table_full_s": times[-MOST_TIMES:], "error": error}


def clock() -> dict[str, Any]:
    """Return what the kernel knows of its clock's quality: adjtimex that changes nothing."""
    import ctypes

    class Timex(ctypes.Structure):
        """The start of struct timex of linux/timex.h, and room for the rest."""

        _fields_ = [
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 512),
        ]

    timex = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return read_clock(timex.status, timex.maxerror)


def read_clock(status: int, max_error_us: int) -> dict[str, Any]:
    """Return the flags of the kernel's clock by name, and the error it admits to."""
    return {"problems": [text for flag, text in TIMEX_STATUS.items() if status & flag], "max_error_us": max_error_us}


# ---- routes


def asked_peers(params: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return name, address and whether it is a running pod's of every peer, of those with a second address once more."""
    asked = [*(params.get("peers") or {}).items(), *(params.get("second_peers") or {}).items()]
    return [(name, address, real_pod) for name, (address, real_pod) in asked]


def askable(peers: Iterable[tuple[str, str, bool]]) -> list[str]:
    """Return the peers' addresses. Each becomes a line of a batch that root runs: loopback stands for what is no address."""
    return [address if is_address(address) else "127.0.0.1" for _, address, _ in peers]


def read_peer_routes(peers: Sequence[tuple[str, str, bool]], documents: Iterable[Any], errors: str) -> list[dict[str, Any]]:
    """Return the routes in the answers to ``ip -j -batch`` that begins with one ``route get`` a peer.

    Peers with the same way come together, apart by address family.
    """
    routes = {document[0].get("dst"): document[0] for document in documents if document}
    reasons = {line: text for text, line in re.findall(r"([^\n]+)\nCommand failed -:(\d+)", errors)}
    ways: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, (name, address, real_pod) in enumerate(peers, 1):
        route = (routes.get(address) or {}) if is_address(address) else {}
        device, gateway, failed = route.get("dev"), route.get("gateway") or (route.get("via") or {}).get("host"), None
        if not is_address(address):
            failed = "what the API server gives for it is no address"
        elif device is None:
            kind = route.get("type")
            failed = reasons.get(str(number)) or (
                "the route is " + str(kind) if kind else errors.splitlines()[0] if errors else "no answer"
            )
            gateway = None
        way = ways.setdefault(
            (device, failed, real_pod, ":" in address), {"dev": device, "error": failed, "real_pod": real_pod, "peers": {}}
        )
        way["peers"][name] = [address, gateway]
    return list(ways.values())


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    return any(packs(family, text) for family in (socket.AF_INET, socket.AF_INET6))


def packs(family: int, text: str) -> bool:
    """Whether a text is an address of a family."""
    try:
        return bool(socket.inet_pton(family, text))
    except (OSError, ValueError):
        return False


# ---- what daemons of networks have told the kernel, and each other


def told_devices(links: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the vxlan devices that have to be told behind which node an address is: none that learn, flood, or are led by a program."""
    found = []
    for link in links:
        info = link.get("linkinfo", {})
        data = info.get("info_data", {})
        if info.get("info_kind") == "vxlan" and data.get("learning") is False and not {"external", "group", "group6"} & set(data):
            found.append(link["ifname"])
    return found


def forwarding(links: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return of each such device which nodes' addresses the kernel would send a packet for a next hop to."""
    found = {}
    for device in told_devices(links):
        neighbours = json.loads(output(["ip", "-j", "neigh", "show", "dev", device]) or "[]")
        found[device] = ways(neighbours, json.loads(output(["bridge", "-j", "fdb", "show", "dev", device]) or "[]"))
    return found


def ways(neighbours: Iterable[Mapping[str, Any]], entries: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return next hop to addresses of nodes: by its hardware address in the neighbour table and that one's forwarding entries."""
    behind: dict[str, list[str]] = {}
    for entry in entries:
        if "dst" in entry:
            behind.setdefault(entry["mac"], []).append(entry["dst"])
    return {item["dst"]: sorted(behind.get(item["lladdr"], [])) for item in neighbours if "lladdr" in item}


def bgp() -> list[dict[str, Any]]:
    """Return those who speak BGP on the node, BIRD and Cilium's agent, with their sessions. What their sockets are asked only shows."""
    found = []
    for path in BIRD_SOCKETS:
        if os.path.exists(HOST_ROOT + path):
            found.append(speaker(path, lambda at: bgp_sessions(ask_bird(HOST_ROOT + at, "show protocols"))))
    if os.path.exists(HOST_ROOT + CILIUM_SOCKET):
        found.append(speaker(CILIUM_SOCKET, lambda _: cilium_peers(*ask_cilium("/v1/bgp/peers"))))
    return [item for item in found if item["sessions"] is not None or item["error"] is not None]


def speaker(path: str, sessions_of: Callable[[str], Any]) -> dict[str, Any]:
    """Return what one who speaks BGP tells, or why it does not."""
    try:
        return {"socket": path, "sessions": sessions_of(path), "error": None}
    except Failed as error:
        return {"socket": path, "sessions": None, "error": str(error)}


def ask_cilium(path: str) -> tuple[int, str]:
    """Ask Cilium's agent at its socket; return status and body."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10.0)
        try:
            sock.connect(HOST_ROOT + CILIUM_SOCKET)
            # Of its health it lists the agent's controllers, some for every pod of the node.
            return asked_http(sock, path, 10.0, most_bytes=1 << 24)
        except OSError as error:
            raise Failed("failed", f"Cilium's agent at {CILIUM_SOCKET}: {error.strerror or error}") from error


def cilium_peers(status: int, body: str) -> list[dict[str, str]] | None:
    """Return the BGP sessions in the agent's /v1/bgp/peers; None where it speaks no BGP (501), or has no such path (404)."""
    if status in (404, 501):
        return None
    if status != 200:
        raise Failed("failed", f"Cilium's agent at {CILIUM_SOCKET}: HTTP {status}")
    return [
        {
            "name": f"{peer.get('peer-address')} (AS {peer.get('peer-asn')})",
            "state": str(peer.get("session-state")),
            "since": "",
            "info": "",
        }
        for peer in json.loads(body) or []
    ]


def cilium() -> dict[str, Any] | None:
    """Return what Cilium's agent says of itself, None where it has no socket. Asking changes nothing there."""
    if not os.path.exists(HOST_ROOT + CILIUM_SOCKET):
        return None
    return read_cilium(*ask_cilium("/v1/healthz"), lambda: ask_cilium("/v1/config"))


def read_cilium(status: int, body: str, configuration: Callable[[], tuple[int, str]]) -> dict[str, Any]:
    """Return what checks need of the agent's /v1/healthz, and of /v1/config where that does not tell how it routes (until 1.15)."""
    if status != 200:
        raise Failed("failed", f"Cilium's agent at {CILIUM_SOCKET}: HTTP {status}")
    told = json.loads(body)
    own = told.get("cilium") or {}
    replacement = (told.get("kube-proxy-replacement") or {}).get("mode")
    routing = cilium_routing(told)
    return {
        "state": own.get("state"),
        "message": str(own.get("msg") or "")[:200],
        "replacement": replacement,
        "routing": configured_routing(configuration) if routing is None else routing,
    }


def cilium_routing(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return mode and tunnel that Cilium's agent routes by, of its /v1/healthz; None where that does not tell."""
    routing = told.get("routing") or {}
    mode = routing.get("inter-host-routing-mode")
    return {"mode": str(mode).lower(), "tunnel": routing.get("tunnel-protocol"), "path": "/v1/healthz"} if mode else None


def configured_routing(configuration: Callable[[], tuple[int, str]]) -> dict[str, Any] | None:
    """Return the same of /v1/config, which has the agent's options as they were when it started; of them nothing else is kept."""
    try:
        status, body = configuration()
        options = ((json.loads(body).get("status") or {}).get("daemonConfigurationMap") or {}) if status == 200 else {}
    except (Failed, ValueError, AttributeError):
        return None  # who cannot tell is no error: nothing else hangs on it
    mode = options.get("RoutingMode")
    return {"mode": str(mode).lower(), "tunnel": options.get("TunnelProtocol"), "path": "/v1/config"} if mode else None


def kubelet() -> dict[str, Any] | None:
    """Return what the kubelet is told of names, None where no process is one, or has one within that tells: k3s' does not.

    One in a pod is not the node's: of a cluster within a pod, or called so by whoever runs it.
    """
    for pid in sorted(processes(), key=int):
        arguments = (read_or_none(f"/proc/{pid}/cmdline") or "").split("\0")
        if not (is_kubelet(arguments) or is_kubelite(arguments)) or pod_uid(read_or_none(f"/proc/{pid}/cgroup") or "") is not None:
            continue
        if is_kubelite(arguments):
            path = kubelite_file(arguments)
            arguments = kubelite_arguments(path, read_or_none(f"/proc/{pid}/root{path}"))
        return kubelet_of(pid, kubelet_flags(arguments))
    return None


def is_kubelite(arguments: Sequence[str]) -> bool:
    """Whether a command line is that of MicroK8s' one process."""
    return arguments[0].rsplit("/", 1)[-1] == KUBELITE


def kubelite_file(arguments: Sequence[str]) -> str:
    """Return the file of the kubelet's arguments."""
    name = "--kubelet-args-file"
    for index, word in enumerate(arguments):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name:
            return "".join(arguments[index + 1 : index + 2])
    return KUBELITE_FILE


def kubelite_arguments(path: str, text: str | None) -> list[str]:
    """Return the command line that kubelite makes of such a file: without quotes and comments, with the snap's own folders for their names.

    The folders follow from where the file is: SNAP_DATA/args/kubelet, and SNAP_COMMON beside SNAP_DATA. Raises `Failed` without a text.
    """
    if text is None:
        raise Failed("failed", f"{path}: MicroK8s' arguments of the kubelet could not be read")
    data = path.rpartition("/args/")[0]
    folders = {"SNAP_DATA": data, "SNAP_COMMON": f"{data.rpartition('/')[0]}/common"}
    lines = [line.strip() for line in text.splitlines()]
    words = [word for line in lines if not line.startswith("#") for word in re.sub(r"[\"']", "", line).split()]
    return ["kubelet", *(re.sub(r"\$\{?(\w+)\}?", lambda named: folders.get(named[1], named[0]), word) for word in words)]


def kubelet_of(pid: str, flags: Mapping[str, str]) -> dict[str, Any]:
    """Return what one is told: links in its files are those of its own root."""
    return dict(in_root_of(pid, lambda: kubelet_here(flags), 10.0), pid=int(pid))


def is_kubelet(arguments: Sequence[str]) -> bool:
    """Whether a command line is a kubelet's."""
    return arguments[0].rsplit("/", 1)[-1] == "kubelet" or (
        arguments[0].rsplit("/", 1)[-1] == "hyperkube" and arguments[1:2] == ["kubelet"]
    )


def kubelet_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Return the flags that are of interest."""
    return flags_of(arguments, (*KUBELET_FLAGS, *KUBELET_FILES))


def flags_of(arguments: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """Return flags of a command line by their name with two dashes; of one that is given twice the last."""
    found: dict[str, str] = {}
    for index, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        name = "--" + name.lstrip("-") if name.startswith("-") else ""
        if name in names:
            found[name] = value if equals else "".join(arguments[index + 1 : index + 2])
    return found


def kubelet_here(flags: Mapping[str, str]) -> dict[str, Any]:
    """Return flags, the named keys of the files, and whom the file names that pods of the node's own policy get."""
    folder = flags.get("--config-dir")
    more = sorted(name for name in os.listdir(folder) if name.endswith(".conf")) if folder and os.path.isdir(folder) else []
    return kubelet_told(flags, [f"{folder}/{name}" for name in more], read_or_none)


def kubelet_told(flags: Mapping[str, str], more: Sequence[str], text_of: Callable[[str], str | None]) -> dict[str, Any]:
    """Return the same, by what gives the text of a file; `more` are the files of its folder in their order."""
    paths = ([flags["--config"]] if flags.get("--config") else []) + [*more]
    files = [{"path": path, "text": kubelet_keys(text_of(path))} for path in paths]
    given = {KUBELET_FLAGS[name]: value for name, value in flags.items() if name in KUBELET_FLAGS}
    named = resolv_path(given, files)
    return {"flags": given, "files": files, "resolv_path": named, "resolv": resolv_conf(text_of(named)) if named else None}


def resolv_path(given: Mapping[str, str], files: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the file that pods of the policy Default get; /etc/resolv.conf is the kubelet's default, an empty name none."""
    if "resolvConf" in given:
        return given["resolvConf"] or None
    lines = [line for item in files for line in (item["text"] or "").splitlines()]
    found = [line.partition(":")[2].split(" #")[0].strip().strip("\"'") for line in lines if line.startswith("resolvConf:")]
    return (found[-1] or None) if found else "/etc/resolv.conf"


def kubelet_keys(text: str | None) -> str | None:
    """Return the lines of a KubeletConfiguration's named top-level keys as YAML: others, such as headers of URLs, never leave the node."""
    if text is None:
        return None
    keys = tuple(KUBELET_FLAGS.values())
    if text.lstrip().startswith("{"):
        given = json.loads(text)
        return "".join(f"{key}: {json.dumps(given[key])}\n" for key in keys if given.get(key) is not None)
    kept, inside = [], False
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            # An item of a list may stand at the column of its key.
            inside = inside if line[0] in " \t-" and line != "---" else line.partition(":")[0] in keys
            if inside:
                kept.append(line[:300] + "\n")
    return "".join(kept[:50])


def nginx() -> list[dict[str, Any]]:
    """Return what nginx in pods runs with: of each master process its pod and a few directives of its file."""
    names: dict[str, str] | None = None
    found: list[dict[str, Any]] = []
    for pid in sorted(processes(), key=int):
        path = nginx_file(read_or_none(f"/proc/{pid}/cmdline") or "")
        if path is None or (uid := pod_uid(read_or_none(f"/proc/{pid}/cgroup") or "")) is None or len(found) >= MOST_NGINX:
            continue
        names = pod_names() if names is None else names
        text = read_regular(f"/proc/{pid}/root{path}", NGINX_BYTES)
        found.append(dict(nginx_directives(text), pod=names.get(uid, uid), path=path))
    return found


def nginx_file(cmdline: str) -> str | None:
    """Return the file of an nginx by the command line of its master process, None for other processes."""
    master = re.match(r"nginx: master process (.*)", cmdline.replace("\0", " "))
    if master is None:
        return None
    named = re.search(r" -c *(/\S+)", master.group(1))
    return named.group(1) if named else NGINX_FILE


def nginx_directives(text: str | None) -> dict[str, Any]:
    """Return the directives before the first server, and those of ingress-nginx' upstream; None where there are none."""
    if text is None:
        return {"directives": None, "upstream": None}
    directives: dict[str, str] = {}
    upstream: dict[str, str] | None = None
    depth = 0  # within the upstream
    for line in text.splitlines():
        line = line.split(" #")[0].strip()
        if re.match(r"server\s*\{", line):
            break
        kept = re.match(r"(\w+)\s+([^;{}]{1,100});$", line)
        if depth:
            if kept and kept.group(1) in NGINX_UPSTREAM and depth == 1 and upstream is not None:
                upstream[kept.group(1)] = " ".join(kept.group(2).split())
            depth += line.count("{") - line.count("}")
        elif re.match(r"upstream\s+upstream_balancer\s*\{", line):
            depth, upstream = 1, {}
        elif kept and kept.group(1) in NGINX_DIRECTIVES:
            directives[kept.group(1)] = " ".join(kept.group(2).split())
    return {"directives": directives, "upstream": upstream}


def ask_bird(path: str, command: str, timeout_s: float = 5.0) -> str:
    """Return BIRD's answer to a command: lines after a code each, of which the last one ends its list."""
    until = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(path)
            read_bird(sock, until)  # its greeting
            sock.sendall((command + "\n").encode())
            return read_bird(sock, until)
        except OSError as error:
            raise Failed("failed", f"BIRD at {path}: {error.strerror or error}") from error


def read_bird(sock: socket.socket, until: float) -> str:
    """Return one answer: it ends with a line that has a blank after its code."""
    data = b""
    while not re.search(rb"(?m)^\d{4} .*\n\Z", data):
        chunk = sock.recv(65536) if time.monotonic() < until else b""
        if not chunk:
            raise Failed("failed", "BIRD broke off its answer")
        data += chunk
    return data.decode("utf-8", "replace")


def bgp_sessions(answer: str) -> list[dict[str, str]]:
    """Return the BGP protocols in the answer to ``show protocols``, of BIRD's socket or of birdc."""
    found = []
    for line in answer.splitlines():
        words = re.sub(r"^\d{4}[- ]", "", line).split()
        if len(words) > 4 and words[1] == "BGP":
            # A time of the form "iso long" is two words.
            info = words[6:] if re.match(r"\d\d:\d\d", " ".join(words[5:])) else words[5:]
            found.append({"name": words[0], "state": words[3], "since": words[4], "info": " ".join(info)})
    return found


# ---- persisted sysctls


def is_of_interest(key: str, keys: Iterable[str]) -> bool:
    """Whether an assignment is worth keeping: files hold hundreds about other things than networks."""
    return key.startswith("net.") or key in keys


def persisted_on_node() -> list[dict[str, Any]]:
    """Return the assignments of the sysctl files, where the root is the node's."""
    return persisted_sysctls(SYSCTL_DIRECTORIES, None if os.path.isdir(SYSTEMD) else PROCPS_FILE)


def persisted_sysctls(directories: Sequence[str], last: str | None) -> list[dict[str, Any]]:
    """Return every assignment in the order it is applied: of those with the same key the last one wins."""
    found = [(directory, os.path.realpath(directory)) for directory in directories if os.path.isdir(directory)]
    files = sysctl_files([(directory, real, os.listdir(real)) for directory, real in found]) + ([last] if last else [])
    return [item for path in files for item in assignments(path, enumerate((read_or_none(path) or "").splitlines(), 1))]


def running_sysctls(persisted: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the values in force of keys that files assign, patterns taken apart; those that this kernel has not are not there."""
    found: dict[str, str] = {}
    for item in persisted:
        for path in matching(sysctl_path(item["key"])):
            key = sysctl_key(path)
            value = read_sysctl(key) if is_node_wide(key) else None
            if value is not None:
                found[key] = value
    return found


def matching(path: str) -> list[str]:
    """Return the files that a pattern matches; of a path without one itself."""
    if not re.search(r"[*?\[]", path):
        return [path]
    import glob

    return glob.glob(path)


def sysctl_key(path: str) -> str:
    """Return the key of a file below /proc/sys."""
    return path[len(SYSCTLS) :].translate({ord("/"): ".", ord("."): "/"})


def is_node_wide(key: str) -> bool:
    """Whether a key is not one of a single device's, of which a node has one for every pod; CNIs set those as they make the devices."""
    return re.match(r"net\.ipv[46]\.(conf|neigh)\.(?!all\.|default\.)", key) is None


def sysctl_files(directories: Iterable[tuple[str, str, Iterable[str]]]) -> list[str]:
    """Return the files that are applied, in their order. `directories` are path, real path and names, the weightiest first."""
    files: dict[str, str] = {}
    seen = set()
    for directory, real, names in directories:
        if real not in seen:
            seen.add(real)
            for name in names:
                if name.endswith(".conf"):
                    files.setdefault(name, directory + "/" + name)
    return [files[name] for name in sorted(files)]


def assignments(path: str, lines: Iterable[tuple[int, str]]) -> list[dict[str, Any]]:
    """Return the assignments in numbered lines of a file."""
    found = []
    for number, line in lines:
        text = line.strip()
        key, assigned, value = text.partition("=")
        # A key with a dash before it and nothing behind it is one that patterns leave alone (sysctl.d(5)).
        if not text or text[0] in "#;" or (not assigned and text[0] != "-"):
            continue
        told = " ".join(value.split()) if assigned else None
        found.append({"key": dotted(key.lstrip("- ").rstrip()), "value": told, "file": path, "line": number})
    return found


def dotted(key: str) -> str:
    """Return a key as sysctl prints it: the first separator says which kind it uses."""
    first = re.search(r"[./]", key)
    return key.translate({ord("."): "/", ord("/"): "."}) if first and first.group() == "/" else key


# ---- kube-proxy and what it leaves in the kernel


def http_get(address: str, port: int, path: str, timeout_s: float = 3.0) -> tuple[int, str]:
    """Return status and body; http.client would cost a slow node a second to import."""
    with connect_to(address, port, timeout_s) as sock:
        return asked_http(sock, path, timeout_s)


def asked_http(sock: socket.socket, path: str, timeout_s: float, most_bytes: int = 1 << 20) -> tuple[int, str]:
    """Ask over a connection; return status and body."""
    sock.sendall((f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").encode())
    data = b""
    until = time.monotonic() + timeout_s
    while len(data) < most_bytes and time.monotonic() < until:
        chunk = sock.recv(65536)
        if not chunk:
            break
        data += chunk
    return read_http(data)


def read_http(data: bytes) -> tuple[int, str]:
    """Return status and body of an answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d+)", head)
    if not found:
        raise Failed("failed", "no HTTP answer")
    return int(found.group(1)), body.decode("utf-8", "replace")


def kube_proxy(node_ip: str | None) -> dict[str, Any]:
    """Return kube-proxy's own word for its mode, from the port that its configuration names where nobody listens at the default one."""
    told = kube_proxy_mode(node_ip)
    if told["mode"] is None and not told["listening"]:
        port = kube_proxy_port()
        if port != PROXY_PORT:
            return kube_proxy_mode(node_ip, port=port)
    return told


def kube_proxy_port() -> int:
    """Return the port at which the kube-proxy in this network namespace tells its mode: OpenShift's has another than the default one."""
    own = net_namespace("self")
    for pid in sorted(processes(), key=int):
        arguments = (read_or_none(f"/proc/{pid}/cmdline") or "").split("\0")
        if arguments[0].rsplit("/", 1)[-1] == "kube-proxy" and net_namespace(pid) == own:
            config = flags_of(arguments, ("--config",)).get("--config")
            text = read_regular(f"/proc/{pid}/root{config}", CONFIG_BYTES) if config else None
            return metrics_port(arguments, text)
    return PROXY_PORT


def metrics_port(arguments: Sequence[str], configuration: str | None) -> int:
    """Return the port of metricsBindAddress: that of the file, beside which flags do not count, else that of the flag."""
    flags = flags_of(arguments, ("--config", "--metrics-bind-address"))
    if flags.get("--config"):
        found = re.search(r"""metricsBindAddress"?: *["']?[^\s"',]*:(\d+)""", configuration or "")
    else:
        found = re.search(r":(\d+)$", flags.get("--metrics-bind-address", ""))
    return int(found.group(1)) if found else PROXY_PORT


def kube_proxy_mode(node_ip: str | None, get: HttpGet = http_get, port: int = PROXY_PORT) -> dict[str, Any]:
    """Return kube-proxy's own word for its mode; metricsBindAddress may have it on the node's address instead of loopback."""
    answer: dict[str, Any] = {"mode": None, "mode_error": None, "listening": False, "address": None, "port": port}
    for address in ("127.0.0.1", "::1") + ((node_ip,) if node_ip else ()):
        try:
            status, body = get(address, port, "/proxyMode")
        except (OSError, Failed) as error:
            if address == node_ip:  # a firewall may be silent there
                continue
            # An answer that does not come, breaks off or is none means that something listens.
            if isinstance(error, (Failed, socket.timeout, ConnectionResetError, BrokenPipeError)):
                answer["listening"] = True
            text = ((getattr(error, "strerror", None) or str(error)) or type(error).__name__).lower()
            if answer["mode_error"] is None:
                answer["mode_error"] = text
            continue
        answer["listening"] = True
        mode = body.strip()
        if status == 200 and re.match(r"[a-z]{1,16}$", mode):
            answer.update(mode=mode, mode_error=None, address=address)
            break
        answer["mode_error"] = f"HTTP {status}" + (" and no mode" if status == 200 else "")
    return answer


def processes() -> Iterable[str]:
    """Return the ids of all processes."""
    return (name for name in os.listdir("/proc") if name.isdigit())


def net_namespace(pid: str) -> str | None:
    """Return the identity of a process's network namespace."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def kube_proxy_processes(listening: bool) -> list[str]:
    """Return the kube-proxy processes in this network namespace; kube-proxy inside k3s has none of its own.

    MicroK8s' kubelite is one where somebody listens at kube-proxy's port: there it has one within.
    """
    own = net_namespace("self")
    found = []
    for pid in processes():
        arguments = (read_or_none(f"/proc/{pid}/cmdline") or "").split("\0")
        if (is_kube_proxy(arguments) or (listening and is_kubelite(arguments))) and net_namespace(pid) in (own, None):
            found.append((int(pid), " ".join(without_secrets(arguments))[:300]))
    return [f"pid {pid}: {command}" for pid, command in sorted(found)]


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """Return a command line's program and the flags that say what it is; others, which may hold a token, never leave the node."""
    kept = [*arguments[: 1 if arguments[0].endswith(("kube-proxy", KUBELITE)) else 2]]
    before = ""
    for word in arguments[1:]:
        if word.split("=", 1)[0] in KEPT_FLAGS or (before in KEPT_FLAGS and not word.startswith("-")):
            kept.append(word)
        before = word
    return [word for word in kept if word]


def is_kube_proxy(arguments: Sequence[str]) -> bool:
    """Whether a command line is kube-proxy's, not one that only names it."""
    name = arguments[0].rsplit("/", 1)[-1]
    return name == "kube-proxy" or (name == "hyperkube" and len(arguments) > 1 and arguments[1] in ("kube-proxy", "proxy"))


def ipvs_table() -> dict[str, Any]:
    """Return /proc/net/ip_vs; the file is there as soon as the module is."""
    if not os.path.exists("/proc/net/ip_vs"):
        return {"loaded": False, "table": None}
    return {"loaded": True, "table": without_counters(read("/proc/net/ip_vs"))}


def without_counters(table: str) -> str:
    """Return an IPVS table without the columns ActiveConn and InActConn: they change all the time, and are half of the text."""
    return re.sub(r"(?m)(?<=\d) +\d+ +\d+ *$", "", table)


def without_real_servers(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table with its virtual servers alone: what belongs behind them is for the operation ``ipvs``."""
    table = answer["table"]
    return dict(answer, table=None if table is None else re.sub(r"(?m)^ +-> +[\[0-9A-F].*\n?", "", table))


def ipvs(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``ipvs``."""
    proxy = kube_proxy(params.get("uplink_ip"))
    return dict(ipvs_table(), kube_ipvs0=os.path.exists("/sys/class/net/kube-ipvs0"), configz=kube_proxy_configz(proxy), mode=proxy["mode"])


def kube_proxy_configz(proxy: Mapping[str, Any], get: HttpGet = http_get) -> Any:
    """Return what checks need of kube-proxy's configuration as it tells it beside its mode, None when it does not."""
    if proxy["address"] is None:
        return None
    try:
        status, body = get(proxy["address"], proxy["port"], "/configz")
        found = json.loads(body) if status == 200 else None
    except (OSError, ValueError, Failed):
        return None
    if not isinstance(found, dict):
        return None
    return {
        name: {key: value for key, value in part.items() if key.lower() in KEPT_SETTINGS}
        for name, part in found.items()
        if name.lower() == "kubeproxy.config.k8s.io" and isinstance(part, dict)
    }


def patient_http_get(address: str, port: int, path: str) -> tuple[int, str]:
    """Return status and body of an answer that a busy node does not write at once: some hundred kilobytes."""
    return http_get(address, port, path, timeout_s=10.0)


def kube_proxy_metrics(proxy: Mapping[str, Any], get: HttpGet = patient_http_get) -> dict[str, Any]:
    """Return what kube-proxy's metrics say of its syncs: when the last ones were, and how many failed since its start."""
    if proxy["address"] is None:
        return {"metrics": None, "metrics_error": None}
    try:
        status, body = get(proxy["address"], proxy["port"], "/metrics")
    except (OSError, Failed) as error:
        return {"metrics": None, "metrics_error": str(error) or type(error).__name__}
    if status != 200:
        return {"metrics": None, "metrics_error": f"HTTP {status}"}
    found = {}
    for name, labels, value in re.findall("^" + KEPT_METRICS, body, re.MULTILINE):
        try:
            found[name + (f"{{{labels}}}" if labels else "")] = float(value)
        except ValueError:
            continue
    return {"metrics": found, "metrics_error": None}


def kube_proxy_livez(proxy: Mapping[str, Any], get: HttpGet = http_get) -> int | None:
    """Return the HTTP status with which kube-proxy says of itself whether changes wait for its syncs: 503 when they do. None without."""
    if proxy["address"] is None:
        return None
    try:
        status, _ = get(proxy["address"], 10256, "/livez")
    except (OSError, Failed):
        return None
    return status


def iptables_legacy() -> dict[str, Any]:
    """Return the legacy back end's KUBE chains; iptables-legacy is asked only for a table that exists, as it would make one."""
    backend: dict[str, Any] = {"tables": [], "chains": [], "reachable": [], "error": None}
    tables: set[str] = set()
    texts = []
    try:
        for names, tool in (("/proc/net/ip_tables_names", "iptables-legacy-save"), ("/proc/net/ip6_tables_names", "ip6tables-legacy-save")):
            present = (read(names) if os.path.exists(names) else "").split()
            tables.update(present)
            if "nat" in present:
                texts.append(output([tool, "-t", "nat"]))
    except (OSError, Failed) as error:
        backend["error"] = str(error)
    return dict(backend, tables=sorted(tables), **kube_chains(texts))


def iptables_nft(nft: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nft back end's KUBE chains."""
    backend: dict[str, Any] = {"tables": [], "chains": [], "reachable": [], "error": nft["error"]}
    names = [table.split(" ", 1) for table in nft["tables"]]
    tables = {name for family, name in names if family in ("ip", "ip6") and name in IPTABLES_TABLES}
    texts = []
    try:
        for family, tool in (("ip", "iptables-nft-save"), ("ip6", "ip6tables-nft-save")):
            if [family, "nat"] in names:
                text = output([tool, "-t", "nat"])
                if INCOMPATIBLE not in text:
                    texts.append(text)
                elif has_kube_chains(json.loads(output(["nft", "-j", "list", "chains", family]))):
                    raise Failed("failed", tool + HIDDEN_CHAINS)
    except Failed as error:
        backend["error"] = str(error)
    except ANY_ERROR as error:
        backend["error"] = repr(error)
    return dict(backend, tables=sorted(tables), **kube_chains(texts))


def has_kube_chains(listed: Mapping[str, Any]) -> bool:
    """Whether the table nat, which somebody filled with rules of nft's own, has chains of kube-proxy or kubelet as well."""
    chains = [item["chain"] for item in listed["nftables"] if "chain" in item]
    return any(chain["table"] == "nat" and chain["name"].startswith("KUBE-") for chain in chains)


def kube_chains(texts: Iterable[str]) -> dict[str, Any]:
    """Return the KUBE chains in outputs of iptables-save, and those of them that a packet can get to."""
    chains: set[str] = set()
    reachable: set[str] = set()
    for text in texts:
        jumps: dict[str, set[str]] = {}
        reached = set()
        for line in text.splitlines():
            words = line.split()
            if line.startswith(":"):
                jumps.setdefault(words[0][1:], set())
                if words[1] != "-":  # only base chains have a policy
                    reached.add(words[0][1:])
            elif line.startswith("-A "):
                targets = {words[index + 1] for index, word in enumerate(words[:-1]) if word in ("-j", "-g", "--jump", "--goto")}
                jumps.setdefault(words[1], set()).update(targets)
        todo = list(reached)
        while todo:
            for target in jumps.get(todo.pop(), ()):
                if target in jumps and target not in reached:
                    reached.add(target)
                    todo.append(target)
        chains.update(name for name in jumps if name.startswith("KUBE-"))
        reachable.update(name for name in reached if name.startswith("KUBE-"))
    return dict(named("chains", chains), **named("reachable", reachable))


def named(what: str, chains: Iterable[str]) -> dict[str, Any]:
    """Return names of chains, and by kind how many more there are whose names are only hashes."""
    counts: dict[str, int] = {}
    kept = []
    for name in sorted(chains):
        hashed = re.match(r"(KUBE-[A-Z]+-)[A-Z2-7]{16}$", name)
        kind = hashed.group(1) if hashed else name
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= MOST_CHAINS:
            kept.append(name)
    return {what: kept, "more_" + what: {kind: count - MOST_CHAINS for kind, count in counts.items() if count > MOST_CHAINS}}


def nft_tables() -> dict[str, Any]:
    """Return the nft tables. A kernel without nf_tables has none, and asking must not load it."""
    if not has_nf_tables():
        return {"tables": [], "error": None}
    try:
        return read_nft_tables(*run(["nft", "-j", "list", "tables"]))
    except (Failed, OSError, ValueError, LookupError, TypeError) as error:
        return {"tables": [], "error": f"nft -j list tables: {error}"}


def read_nft_tables(status: int, out: str, err: str) -> dict[str, Any]:
    """Return the tables in what ``nft -j list tables`` gave."""
    if status != 0:
        if re.search(r"Protocol not supported|Operation not supported|Address family not supported", err):
            return {"tables": [], "error": None}
        return {"tables": [], "error": f"nft -j list tables: exit status {status}: {err.strip()[-300:]}"}
    tables = [item["table"] for item in json.loads(out)["nftables"] if "table" in item]
    return {"tables": [table["family"] + " " + table["name"] for table in tables], "error": None}


def has_nf_tables() -> bool:
    """Whether the kernel has nf_tables in it, as a loaded module or built in."""
    if os.path.exists("/sys/module/nf_tables"):
        return True
    built_in = built_in_modules()
    # Without a list of modules there is nothing that asking could load.
    return built_in is None or "/nf_tables.ko" in built_in


# ---- pods that were there before us


def running_pods(skip_namespace: str | None) -> dict[str, tuple[str, str]]:
    """Return the pods that have a network namespace of their own: name to a process in it and its identity.

    A pod with a process in the node's has none: what of it is in another one, as Cilium's health endpoint is, is no pod.
    """
    names = pod_names()
    own = {net_namespace("self"), net_namespace("1")}
    spaces = [(pid, space) for pid in processes() for space in [net_namespace(pid)] if space is not None]
    of_node = {uid for pid, space in spaces if space in own for uid in [pod_uid(read_or_none(f"/proc/{pid}/cgroup") or "")]}
    found: dict[str, list[tuple[str, str]]] = {}
    seen = set(own)
    for pid, space in spaces:
        uid = None if space in seen else pod_uid(read_or_none(f"/proc/{pid}/cgroup") or "")
        if uid is None or uid in of_node:
            continue
        seen.add(space)
        found.setdefault(names.get(uid, uid), []).append((pid, space))
    kept = kept_namespaces() if any(len(several) > 1 for several in found.values()) else set()
    return {
        name: of_pod(several, kept) for name, several in found.items() if not skip_namespace or not name.startswith(skip_namespace + "/")
    }


def of_pod(found: Sequence[tuple[str, str]], kept: Collection[str]) -> tuple[str, str]:
    """Return which of the network namespaces of a pod's processes is the pod's: the one that the runtime keeps by a file, else the first.

    Containers within it (Docker in Docker), and sandboxes that a program makes for itself, have others.
    """
    return next((item for item in found if item[1] in kept), found[0])


def kept_namespaces() -> set[str]:
    """Return the network namespaces that the node's container runtimes keep by a file, as containerd and CRI-O do."""
    found = set()
    for directory in [HOST_ROOT + path for path in NAMESPACE_FILES if os.path.isdir(HOST_ROOT + path)]:
        for name in os.listdir(directory):
            try:
                found.add(f"net:[{os.stat(directory + '/' + name).st_ino}]")
            except OSError:
                continue  # its pod is gone
    return found


def existing_pods(keys: Sequence[str], pods: Mapping[str, tuple[str, str]], limit: int) -> list[dict[str, Any]]:
    """Look into the network namespaces of running pods, from a child that enters them one after the other."""
    chosen = sorted(pods.items())[: max(0, limit)]

    def look() -> list[dict[str, Any]]:
        found = []
        for name, (pid, namespace) in chosen:
            try:
                descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
            except OSError:
                continue  # it has ended meanwhile
            try:
                if os.readlink(f"/proc/self/fd/{descriptor}") != namespace:
                    continue
                enter_net_namespace(descriptor)
                resolv = resolv_conf(read_regular(f"/proc/{pid}/root/etc/resolv.conf", RESOLV_BYTES))
                found.append(dict(namespace_facts(keys), name=name, resolv=resolv))
            except Failed as error:
                raise Failed(error.kind, name + ": " + str(error)) from error
            finally:
                os.close(descriptor)
        return found

    answer: list[dict[str, Any]] = in_child(look, 30.0) if chosen else []
    return answer


def resolv_conf(text: str | None) -> dict[str, Any] | None:
    """Return whom a pod asks for names; of several lines with a search list the last one counts (resolv.conf(5))."""
    if text is None:
        return None
    found: dict[str, Any] = {"nameservers": [], "search": [], "ndots": 1}
    for line in text.splitlines():
        key, *words = line.split() or [""]
        if key == "nameserver":
            found["nameservers"] += words[:1]
        elif key in ("search", "domain"):
            found["search"] = words
        elif key == "options":
            for word in words:
                name, _, value = word.partition(":")
                if name == "ndots" and value.isdigit():
                    found["ndots"] = int(value)
    return found


def enter_net_namespace(descriptor: int) -> None:
    """Make a network namespace this process's own."""
    if hasattr(os, "setns"):  # Python 3.12
        os.setns(descriptor, CLONE_NEWNET)
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def pod_uid(cgroup: str) -> str | None:
    """Return the pod's uid in the text of /proc/PID/cgroup, for both cgroup drivers."""
    found = re.search(r"pod([0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})", cgroup)
    return found.group(1).replace("_", "-") if found else None


def pod_names() -> dict[str, str]:
    """Return uid to namespace/name of the pods that have logs on this node."""
    try:
        entries = os.listdir(HOST_ROOT + "/var/log/pods")
    except OSError:
        return {}
    return names_of_pods(entries)


def names_of_pods(entries: Iterable[str]) -> dict[str, str]:
    """Return uid to namespace/name of the folders in /var/log/pods."""
    parts = [entry.split("_") for entry in entries]
    return {part[2]: part[0] + "/" + part[1] for part in parts if len(part) == 3}


# ---- throughput

servers: dict[int, tuple[Any, float]] = {}  # process id to process and the time by which it must have ended


def counters(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``counters``."""
    device = params.get("device")
    base = f"/sys/class/net/{device}/statistics/"
    sums = {name: int(read(base + name)) if device is not None else None for name in ("rx_bytes", "tx_bytes")}
    return {**sums, "processors": ticks_by_processor(read_or_none("/proc/stat") or "")}


def iperf3_server(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``iperf3_server``: start one for a single test and wait until it listens."""
    reap()
    address = params.get("address")
    first, last = params["ports"]
    port = free_port(address, first, last)
    argv = ["iperf3", "-s", "-1", "-p", str(port)] + (["-B", address] if address else [])
    process = start(argv)
    servers[process.pid] = (process, time.monotonic() + float(params.get("max_s", 60)))
    until = time.monotonic() + 10.0
    while not is_listening(port):
        if process.poll() is not None:
            ended = stop({"pid": process.pid})
            raise Failed("failed", f"{' '.join(argv)}: exit status {ended['exit_status']}: {ended['output'].strip()}")
        if time.monotonic() > until:
            stop({"pid": process.pid})
            raise Failed("timeout", " ".join(argv) + ": does not listen after 10 s")
        time.sleep(0.02)
    return {"pid": process.pid, "port": port}


def free_port(address: str | None, first: int, last: int) -> int:
    """Return the first port of a range that nothing listens on."""
    for port in range(first, last + 1):
        family = socket.AF_INET6 if ":" in (address or "") else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address or "", port))
            except OSError:
                continue
        if not is_listening(port):
            return port
    raise Failed("failed", f"no free port between {first} and {last}")


def is_listening(port: int) -> bool:
    """Whether a TCP socket of this network namespace listens on `port`; connecting would spend a one-off server."""
    pattern = re.compile(rf"^\s*\d+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 0A ", re.MULTILINE)
    return any(pattern.search(read_or_none(path) or "") for path in ("/proc/net/tcp", "/proc/net/tcp6"))


def iperf3_client(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``iperf3_client``. Exit status 0 says nothing (3.12 gives it when refused): the JSON's ``error`` does."""
    seconds, omit = int(params["seconds"]), int(params.get("omit_s", 0))
    argv = ["iperf3", "-c", params["address"], "-p", str(params["port"]), "-J", "-t", str(seconds), "-O", str(omit)]
    argv += ["--connect-timeout", "5000"]
    streams = int(params.get("streams", 1))
    if streams > 1:
        argv += ["-P", str(streams)]
    if params.get("bitrate_bps"):
        argv += ["-b", str(int(params["bitrate_bps"]) // streams)]
    if params.get("udp"):
        argv += ["-u"]
    status, out, err = run(argv, seconds + omit + 15.0)
    try:
        result = json.loads(out)
    except ValueError:
        result = {"error": "no JSON: " + (err.strip() or out.strip())[-300:]}
    return {"exit_status": status, "result": result, "stderr": err[-500:]}


def stop(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``stop``: end a server started before; one that is gone is fine."""
    process, _ = servers.pop(int(params["pid"]), (None, 0.0))
    if process is None:
        return {"exit_status": None, "output": ""}
    ended = process.poll()
    kill(process)
    out, err = process.communicate()
    return {"exit_status": ended, "output": (err + out).decode("utf-8", "replace")[-1000:]}


def reap(everything: bool = False) -> None:
    """End servers whose time is over."""
    for pid, (_, until) in list(servers.items()):
        if everything or time.monotonic() > until:
            stop({"pid": pid})


# ---- requests


def run_command(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``run``."""
    started = time.monotonic()
    status, out, err = run([str(word) for word in params["argv"]], float(params.get("timeout_s", 30.0)), params.get("stdin"))
    return {"exit_status": status, "stdout": out, "stderr": err, "duration_s": round(time.monotonic() - started, 3)}


def load(params: Mapping[str, Any]) -> None:
    """Operation ``load``."""
    this = type(sys)(AGENT)
    this.__dict__.update(globals())
    sys.modules.setdefault(AGENT, this)
    program = type(sys)(params["name"])
    exec(compile(params["source"], params["name"], "exec"), program.__dict__)  # noqa: S102 - it is how the agent itself came here
    for name, operation in program.OPERATIONS.items():
        OPERATIONS[params["name"] + "." + name] = operation


OPERATIONS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "facts": facts,
    "ipvs": ipvs,
    "run": run_command,
    "counters": counters,
    "activity": activity,
    "iperf3_server": iperf3_server,
    "iperf3_client": iperf3_client,
    "stop": stop,
    "load": load,
}


def answer_line(line: bytes) -> dict[str, Any]:
    """Return the answer to one line of input, whatever is in it."""
    number = None
    try:
        request = json.loads(line.decode())
        number = request.get("id")
        operation = OPERATIONS.get(request.get("op"))
        if operation is None:
            raise Failed("request", f"no operation {request.get('op')!r}")
        return {"id": number, "result": operation(request.get("params") or {})}
    except Failed as error:
        return {"id": number, "error": {"kind": error.kind, "message": str(error)}}
    except ANY_ERROR as error:
        return {"id": number, "error": {"kind": "failed", "message": repr(error)}}


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`."""
    while data:
        data = data[os.write(descriptor, data) :]


def heartbeat() -> None:
    """Write an empty line, which means nothing but that the agent lives."""
    write_all(1, b"\n")


def main() -> None:
    """Answer requests until stdin ends."""
    write_all(1, json.dumps({"ready": PROTOCOL, "python": ".".join(map(str, sys.version_info[:3]))}).encode() + b"\n")
    rest = b""
    try:
        while True:
            if not select.select([0], [], [], HEARTBEAT_S)[0]:
                heartbeat()
                reap()
                continue
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    write_all(1, json.dumps(answer_line(line)).encode() + b"\n")
    except (BrokenPipeError, KeyboardInterrupt):
        return
    finally:
        reap(everything=True)


if __name__ == "__main__":
    main()
