"""What collect.sh has read, as the same values that the agent gives: its own functions make them of files and of tools' output. Pure.

What the shell cannot tell is left out or told by the kernel's setting: the congestion control of a fresh socket is the sysctl's, which is
where the kernel takes it from (net/ipv4/tcp_cong.c, tcp_assign_congestion_control).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pytest_k8snet.agent import agent
from pytest_k8snet.agent.agent import Failed

HTTP_CLIENTS = ("curl", "bash", "nc", "wget")  # in the order they are tried in
TOOLS = (*agent.TOOLS, "nsenter", *HTTP_CLIENTS)

_CONGESTION_CONTROL = "/proc/sys/net/ipv4/tcp_congestion_control"
_NOT_FOUND = 127
_REFUSED = ConnectionRefusedError(111, "Connection refused")


@dataclass(frozen=True, slots=True)
class Section:
    """What one command gave."""

    out: str
    status: int
    err: str


class Collected:
    """The sections of one run of collect.sh.

    Raises `Failed` when it did not come to its end.
    """

    def __init__(self, out: bytes, err: bytes, mark: str) -> None:
        text, errors = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
        if f"\n{mark} done\n" not in text:
            raise Failed("failed", "the shell collector broke off" + (f": {errors.strip()[-300:]}" if errors.strip() else ""))
        said = dict(re.findall(rf"\n{mark} begin ([^\n]*)\n(.*?)(?=\n{mark} begin |\Z)", errors, re.DOTALL))
        self._sections = {
            name: Section(body, int(status), said.get(name, ""))
            for name, body, status in re.findall(rf"\n{mark} begin ([^\n]*)\n(.*?)\n{mark} end (\d+)\n", text, re.DOTALL)
        }

    def __iter__(self) -> Iterator[str]:
        """Give the names of the sections."""
        return iter(self._sections)

    def get(self, name: str) -> Section | None:
        """Return a section, None when nothing was tried."""
        return self._sections.get(name)

    def output(self, name: str, told: str) -> str:
        """Return what a command printed; `told` names it in errors.

        Raises `Failed` when it failed, or is not there.
        """
        section = self._sections.get(name)
        if section is None:
            raise Failed("failed", f"{told}: not asked")
        if section.status == _NOT_FOUND:
            raise Failed("tool", f"{told.split()[0]}: not on the node")
        if section.status != 0:
            raise Failed("failed", f"{told}: exit status {section.status}: {(section.err.strip() or section.out.strip())[-500:]}")
        return section.out

    def files(self, name: str) -> dict[str, str]:
        """Return path to text of files that grep printed line by line, each with its name; those that could not be read are not there."""
        section = self._sections.get(name)
        texts: dict[str, str] = {}
        for line in section.out.splitlines() if section else ():
            path, _, text = line.partition(":")
            texts[path] = f"{texts[path]}\n{text}" if path in texts else text
        return texts

    def missing(self, name: str, path: str) -> bool:
        """Whether grep could not read a file."""
        section = self._sections.get(name)
        return section is None or f"grep: {path}: " in section.err


def script(what: str, params: Mapping[str, Any], mark: str) -> bytes:
    """Return the program for the operation `what` (``facts``, ``ipvs``, ``activity``) of the agent with the same parameters."""
    given = {
        "mark": mark,
        "what": what,
        "uplink_ip": params.get("uplink_ip") or "",
        "sysctls": " ".join(agent.sysctl_path(key) for key in params.get("sysctls", ())),
        "sysctl_dirs": " ".join(agent.SYSCTL_DIRECTORIES),
        "tools": " ".join(TOOLS),
        "peers": " ".join(agent.askable(agent.asked_peers(params))),
        "pods": str(int(params.get("existing_pods", 0))),
        "bird_sockets": " ".join(agent.BIRD_SOCKETS),
        "flannel_file": agent.FLANNEL_FILE,
        "cilium_socket": agent.CILIUM_SOCKET,
        "kubelite_file": agent.KUBELITE_FILE,
        "namespace_files": " ".join(agent.NAMESPACE_FILES),
        "skip": params.get("skip_namespace") or "",
    }
    head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
    return head.encode() + resources.files("pytest_k8snet.agent").joinpath("collect.sh").read_bytes()


def facts(found: Collected, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the agent's operation ``facts`` gives.

    Raises `Failed` when devices and routes of the node could not be read.
    """
    errors: dict[str, str] = {}

    def part(name: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except Failed as error:
            errors[name] = str(error)
        except agent.ANY_ERROR as error:
            errors[name] = repr(error)
        return otherwise

    uplink_ip = params.get("uplink_ip")
    uplink = agent.holder(json.loads(found.output("uplink", "ip -j addr") or "[]")) if uplink_ip else None
    keys = agent.sysctl_keys(params.get("sysctls", ()), uplink)
    files, devices = found.files("files"), set(_lines(found, "devices"))
    files_of_networks = found.files("flannel")
    nft = _nft_tables(found)
    get = _http(found)
    proxy = agent.kube_proxy_mode(uplink_ip, get, _proxy_port(found))
    running = [line.split() for line in _lines(found, "pods")]
    conntrack = {name: _number(files.get(f"/proc/sys/net/netfilter/nf_conntrack_{name}")) for name in ("count", "max", "buckets")}
    speed = _number(files.get(f"/sys/class/net/{uplink}/speed"))
    texts = {**files, "/proc/cpuinfo": found.output("cpuinfo", "head /proc/cpuinfo")}
    host = agent.few_routes(_network(found, "network", "routes6", files.get("/proc/net/if_inet6", ""), "sysctls", keys))
    persisted = part("persisted", lambda: [item for item in _persisted(found) if agent.is_of_interest(item["key"], keys)], [])
    physical = _physical(found, uplink)
    return {
        "agent": "shell",
        "tools": tools(found),
        "host": host,
        "uplink": uplink,
        "physical": physical,
        "persisted": persisted,
        "running": _running(found, persisted, host["sysctls"]),
        "modules_built_in": (section := found.get("modules built in")) is not None and section.status in (0, 1),  # grep's words
        "modules": agent.loaded_modules(_lines(found, "modules"), "\n".join(_lines(found, "modules built in"))),
        "kube_proxy": {
            **proxy,
            "processes": _kube_proxy_processes(found, listening=proxy["listening"]),
            "configz": agent.kube_proxy_configz(proxy, get),
            "at_s": _number(section.out) if (section := found.get("now")) is not None else None,
            "livez": agent.kube_proxy_livez(proxy, get),
            **agent.kube_proxy_metrics(proxy, get),
        },
        "ipvs": part("ipvs", lambda: agent.without_real_servers(_ipvs_table(found)), {"loaded": True, "table": None}),
        "iptables": {"legacy": _iptables_legacy(found), "nft": _iptables_nft(found, nft)},
        "nft": nft,
        "qdiscs": part("qdiscs", lambda: json.loads(found.output("qdiscs", "tc -j qdisc show") or "[]"), []),
        "conntrack": conntrack,
        "neighbours": agent.neighbours(files.get(agent.ARP_CACHE)),
        "neighbours_ipv6": agent.neighbours(files.get(agent.NDISC_CACHE)),
        "neighbour_entries": part("neighbour_entries", lambda: _neighbour_entries(found, uplink, host["routes"]), None),
        "activity": _activity(found, physical),
        "clock": part("clock", lambda: _clock(found), None),
        "uplink_speed_mbit": speed if speed and speed > 0 else None,
        "speeds_mbit": speeds(files),
        "uplink_duplex": agent.link_duplex(files.get(f"/sys/class/net/{uplink}/duplex")),
        "virtual": agent.virtual_reason(uplink, texts.get, devices.__contains__),
        "peer_routes": part("peer_routes", lambda: _peer_routes(found, agent.asked_peers(params)), []),
        "existing_pods": part("existing_pods", lambda: _existing_pods(found, running, keys), []),
        "forwarding": part("forwarding", lambda: _forwarding(found), {}),
        "bgp": part("bgp", lambda: _bgp(found), []),
        "flannel": files_of_networks.get(agent.FLANNEL_FILE, "") + "\n" if agent.FLANNEL_FILE in files_of_networks else None,
        "cilium": part("cilium", lambda: _cilium(found), None),
        "kubelet": part("kubelet", lambda: _kubelet(found), None),
        "nginx": part("nginx", lambda: _nginx(found), []),
        "existing_pods_running": len({name for name, _, _ in running}),
        "kernel": files["/proc/sys/kernel/osrelease"],
        "errors": errors,
    }


def ipvs(found: Collected, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the agent's operation ``ipvs`` gives."""
    get = _http(found)
    proxy = agent.kube_proxy_mode(params.get("uplink_ip"), get, _proxy_port(found))
    kube_ipvs0 = found.get("kube-ipvs0")
    return {
        **_ipvs_table(found),
        "kube_ipvs0": kube_ipvs0 is not None and kube_ipvs0.status == 0,
        "configz": agent.kube_proxy_configz(proxy, get),
        "mode": proxy["mode"],
    }


def activity(found: Collected, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the agent's operation ``activity`` gives."""
    uplink = agent.holder(json.loads(found.output("uplink", "ip -j addr") or "[]")) if params.get("uplink_ip") else None
    return _activity(found, _physical(found, uplink))


def tools(found: Collected) -> dict[str, Any]:
    """Return of each tool its path, or ``missing``."""
    paths = {name: section.out.strip() for name in TOOLS if (section := found.get(f"tool {name}")) is not None and section.status == 0}
    return {name: {"path": paths[name], "from": "node"} if paths.get(name) else "missing" for name in TOOLS}


def _network(found: Collected, links: str, routes6: str, if_inet6: str, sysctls: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return a network namespace by the sections that hold its parts."""
    section = found.get(links)
    if section is None or section.status == _NOT_FOUND:
        raise Failed("tool", "ip: not on the node")
    try:
        documents = agent.parse_documents(section.out)
    except ValueError:
        documents = []
    if len(documents) != 2:
        told = section.err.strip() or "unexpected output"
        raise Failed("failed", f"ip -j link, ip -j route: {told} (the ip of the node has to be that of iproute2, with -j)")
    routes = documents[1]
    if agent.has_ipv6(if_inet6):
        routes = routes + json.loads(found.output(routes6, "ip -j -6 route show") or "[]")
    texts = found.files(sysctls)
    values: dict[str, str | None] = {}
    for key in keys:
        path = agent.sysctl_path(key)
        values[key] = " ".join(texts[path].split()) if path in texts else None if found.missing(sysctls, path) else ""
    return agent.network(documents[0], routes, values, texts.get(_CONGESTION_CONTROL, "").strip() or None)


def _neighbour_entries(found: Collected, uplink: str | None, routes: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if uplink is None:
        return None
    return agent.few_neighbours(json.loads(found.output("neighbour entries", "ip -j neigh") or "[]"), routes)


def _forwarding(found: Collected) -> dict[str, Any]:
    names = [name.removeprefix("fdb ") for name in found if name.startswith("fdb ")]
    ways = {}
    for name in agent.told_devices({"ifname": name, **json.loads(found.output(f"device {name}", "ip -j -d link"))[0]} for name in names):
        neighbours = json.loads(found.output(f"neighbours {name}", "ip -j neigh") or "[]")
        ways[name] = agent.ways(neighbours, json.loads(found.output(f"fdb {name}", "bridge -j fdb") or "[]"))
    return ways


def _bgp(found: Collected) -> list[dict[str, Any]]:
    speakers = [
        agent.speaker(path, lambda path: agent.bgp_sessions(found.output(f"bird {path}", f"birdc -s {path} show protocols")))
        for path in agent.BIRD_SOCKETS
        if found.get(f"bird {path}") is not None
    ]
    if (section := found.get("cilium bgp")) is not None:
        speakers.append(agent.speaker(agent.CILIUM_SOCKET, lambda _: agent.cilium_peers(*_from_cilium(section))))
    return [item for item in speakers if item["sessions"] is not None or item["error"] is not None]


def _cilium(found: Collected) -> dict[str, Any] | None:
    section = found.get("cilium")
    if section is None:
        return None
    configuration = found.get("cilium config")
    return agent.read_cilium(*_from_cilium(section), lambda: (0, "") if configuration is None else _from_cilium(configuration))


def _from_cilium(section: Section) -> tuple[int, str]:
    """Return status and body of an answer of Cilium's agent."""
    if section.status == _NOT_FOUND:
        raise Failed("tool", "curl: not on the node, so Cilium's agent was not asked")
    if not section.out.startswith("HTTP/"):
        raise Failed("failed", f"Cilium's agent at {agent.CILIUM_SOCKET}: curl: exit status {section.status}")
    return agent.read_http(section.out.encode())


def _physical(found: Collected, uplink: str | None) -> list[str]:
    return sorted({path.split("/")[-2] for path in _lines(found, "devices") if path.endswith("/device")} | ({uplink} if uplink else set()))


def speeds(files: Mapping[str, str]) -> dict[str, int]:
    """Return the speeds of devices with hardware, of those that tell one."""
    known = {path.split("/")[-2]: _number(text) for path, text in files.items() if "/device/net/" in path}
    return {name: speed for name, speed in sorted(known.items()) if speed is not None and speed > 0}


def _activity(found: Collected, physical: Sequence[str]) -> dict[str, Any]:
    texts = {**found.files("activity"), "/proc/stat": "\n".join(_lines(found, "processor"))}
    return agent.read_activity(float(texts["/proc/uptime"].split()[0]), texts.get, _log(found), physical)


def _log(found: Collected) -> dict[str, Any]:
    section = found.get("log")
    said = section.err.strip() if section else "not asked"
    records = [(float(at_s), line) for line in _lines(found, "log") for at_s in re.findall(r"^\[ *(\d+\.\d+)\]", line)]
    if not records and (said or (section and section.out)):
        return agent.read_log([], f"dmesg: {said[-300:] or 'its lines have no times'}")
    last_s, _ = records[-1] if records else (0.0, "")
    # The last line is there for its time alone.
    return {**agent.read_log(records[:-1], None), "last_s": last_s}


def _clock(found: Collected) -> dict[str, Any]:
    text = found.output("clock", "adjtimex")
    status, max_error_us = (re.search(rf"{name}: +(\d+)", text) for name in ("status", "maxerror"))
    if status is None or max_error_us is None:
        raise Failed("failed", f"adjtimex: {text.strip()[:200] or 'no output'}")
    return agent.read_clock(int(status[1]), int(max_error_us[1]))


def _running(found: Collected, persisted: Sequence[Mapping[str, Any]], known: Mapping[str, str | None]) -> dict[str, str]:
    texts = found.files("running")
    running = {key: " ".join(texts[path].split()) for path in texts if agent.is_node_wide(key := agent.sysctl_key(path))}
    others = {item["key"]: known.get(item["key"]) for item in persisted if item["key"] not in running}
    return {**running, **{key: value for key, value in others.items() if value is not None and agent.is_node_wide(key)}}


def _existing_pods(found: Collected, running: Sequence[Sequence[str]], keys: Sequence[str]) -> list[dict[str, Any]]:
    pods = []
    for name, pid, namespace in running:
        entered = found.get(f"enter {pid}")
        if entered is None:  # more than were to be looked at
            continue
        inside = found.get(f"inside {pid}")
        if inside is None:
            if entered.status == _NOT_FOUND:
                raise Failed("tool", "nsenter: not on the node")
            if "No such file" in entered.err:
                continue  # it has ended meanwhile
            raise Failed("failed", f"{name}: nsenter: exit status {entered.status}: {entered.err.strip()[-300:]}")
        if not inside.out.strip().endswith(f" {namespace}"):
            continue  # another process has its number now
        try:
            network = _network(
                found,
                f"network {pid}",
                f"routes6 {pid}",
                found.files(f"sysctls {pid}").get("/proc/net/if_inet6", ""),
                f"sysctls {pid}",
                keys,
            )
        except Failed as error:
            raise Failed(error.kind, f"{name}: {error}") from error
        resolv = found.get(f"resolv {pid}")
        text = resolv.out if resolv is not None and resolv.status == 0 else None
        pods.append({**network, "name": name, "resolv": agent.resolv_conf(text)})
    return pods


def _persisted(found: Collected) -> list[dict[str, Any]]:
    directories: list[tuple[str, str, list[str]]] = []
    for line in _lines(found, "directories"):
        kind, _, rest = line.partition(" ")
        if kind == "directory":
            path, _, real = rest.partition(" ")
            directories.append((path, real, []))
        else:
            directories[-1][2].append(rest)
    section = found.get("assignments")
    if section is None or section.status > 1:
        raise Failed("failed", f"grep: {section.err.strip()[-300:] if section else 'not asked'}")
    lines: dict[str, list[tuple[int, str]]] = {}
    for line in section.out.splitlines():
        match = re.match(r"(.*?):(\d+):(.*)", line)
        if match is not None:
            lines.setdefault(match[1], []).append((int(match[2]), match[3]))
    order = [*agent.sysctl_files(directories), "/etc/sysctl.conf"]
    return [item for path in order for item in agent.assignments(path, lines.get(path, ()))]


def _proxy_port(found: Collected) -> int:
    section = found.get("proxy port")
    return (None if section is None else _number(section.out)) or agent.PROXY_PORT


def _http(found: Collected) -> Callable[[str, int, str], tuple[int, str]]:
    """Return what asks kube-proxy's port, by the answers that were collected."""

    def get(address: str, port: int, path: str) -> tuple[int, str]:
        del port
        section = found.get(f"http {address} {path}")
        if section is None:
            raise _REFUSED
        if section.status == _NOT_FOUND:
            raise Failed("tool", section.err.strip() or "no HTTP client on the node")
        if section.out.startswith("HTTP/"):
            status, body = agent.read_http(section.out.encode())
            return status, body
        if section.status in (28, 124):  # curl's and timeout's word for it
            raise TimeoutError("timed out")
        if section.status == 7 or "refused" in section.err or (section.status != 0 and not section.err.strip()):
            raise _REFUSED
        raise Failed("failed", section.err.strip()[-200:] or "no HTTP answer")

    return get


def _kube_proxy_processes(found: Collected, *, listening: bool) -> list[str]:
    spaces = _namespaces(found)
    own = spaces.get("self")
    processes = []
    for name in found:
        match = re.fullmatch(r"/proc/(\d+)/cmdline", name)
        section = found.get(name)
        if match is None or section is None or section.status != 0:
            continue
        arguments = section.out.split("\0")
        is_one = agent.is_kube_proxy(arguments) or (listening and agent.is_kubelite(arguments))
        if is_one and spaces.get(match[1]) in (own, None):
            processes.append((int(match[1]), " ".join(agent.without_secrets(arguments))[:300]))
    return [f"pid {pid}: {command}" for pid, command in sorted(processes)]


def _kubelet(found: Collected) -> dict[str, Any] | None:
    command = next((name for name in found if name.startswith("kubelet /proc/")), None)
    if command is None:
        return None
    arguments = found.output(command, "cat").split("\0")
    if agent.is_kubelite(arguments):
        path = agent.kubelite_file(arguments)
        section = found.get(f"kubelet arguments {path}")
        arguments = agent.kubelite_arguments(path, None if section is None else section.out)
    flags = agent.kubelet_flags(arguments)
    texts = {
        name.removeprefix(prefix): found.output(name, "cat")
        for prefix in ("kubelet file ", "kubelet resolver ")
        for name in found
        if name.startswith(prefix)
    }
    folder = flags.get("--config-dir")
    more = sorted(path for path in texts if folder and path.startswith(f"{folder}/") and path.endswith(".conf"))
    return {**agent.kubelet_told(flags, more, texts.get), "pid": int(command.split("/")[2])}


def _nginx(found: Collected) -> list[dict[str, Any]]:
    names = agent.names_of_pods(_lines(found, "nginx pods"))
    pids = sorted(int(name.rpartition("/")[2]) for name in found if name.startswith("nginx cmdline /proc/"))
    told = []
    for pid in pids:
        path = agent.nginx_file(found.output(f"nginx cmdline /proc/{pid}", "cat"))
        uid = agent.pod_uid(found.output(f"nginx cgroup /proc/{pid}", "cat"))
        if path is not None and uid is not None:
            text = found.output(f"nginx file /proc/{pid}", "head")
            told.append({**agent.nginx_directives(text or None), "pod": names.get(uid, uid), "path": path})
    return told[: agent.MOST_NGINX]


def _namespaces(found: Collected) -> dict[str, str]:
    section = found.get("namespaces")
    return dict(re.findall(r"/proc/(\w+)/ns/net -> (net:\S+)", section.out)) if section else {}


def _ipvs_table(found: Collected) -> dict[str, Any]:
    section = found.get("ip_vs")
    if section is None:
        return {"loaded": False, "table": None}
    return {"loaded": True, "table": agent.without_counters(found.output("ip_vs", "cat /proc/net/ip_vs"))}


def _iptables_legacy(found: Collected) -> dict[str, Any]:
    backend: dict[str, Any] = {"tables": [], "chains": [], "reachable": [], "error": None}
    tables: set[str] = set()
    texts = []
    try:
        for family in ("ip", "ip6"):
            names = f"/proc/net/{family}_tables_names"
            present = found.output(names, f"cat {names}").split() if found.get(names) else []
            tables.update(present)
            if "nat" in present:
                texts.append(found.output(f"{family}tables-legacy-save", f"{family}tables-legacy-save -t nat"))
    except Failed as error:
        backend["error"] = str(error)
    return {**backend, "tables": sorted(tables), **agent.kube_chains(texts)}


def _nft_tables(found: Collected) -> dict[str, Any]:
    section = found.get("nft")
    if section is None:
        return {"tables": [], "error": None}
    try:
        if section.status == _NOT_FOUND:
            raise Failed("tool", "nft: not on the node")
        return agent.read_nft_tables(section.status, section.out, section.err)
    except (Failed, ValueError, LookupError, TypeError) as error:
        return {"tables": [], "error": f"nft -j list tables: {error}"}


def _iptables_nft(found: Collected, nft: Mapping[str, Any]) -> dict[str, Any]:
    backend: dict[str, Any] = {"tables": [], "chains": [], "reachable": [], "error": nft["error"]}
    names = [table.split(" ", 1) for table in nft["tables"]]
    tables = {name for family, name in names if family in ("ip", "ip6") and name in agent.IPTABLES_TABLES}
    texts = []
    try:
        for family in ("ip", "ip6"):
            if [family, "nat"] in names:
                tool = f"{family}tables-nft-save"
                text = found.output(tool, f"{tool} -t nat")
                if agent.INCOMPATIBLE not in text:
                    texts.append(text)
                elif agent.has_kube_chains(json.loads(found.output(f"nft chains {family}", f"nft -j list chains {family}"))):
                    raise Failed("failed", tool + agent.HIDDEN_CHAINS)
    except Failed as error:
        backend["error"] = str(error)
    except agent.ANY_ERROR as error:
        backend["error"] = repr(error)
    return {**backend, "tables": sorted(tables), **agent.kube_chains(texts)}


def _peer_routes(found: Collected, peers: Sequence[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    section = found.get("peers")
    if not peers or section is None:
        return []
    return agent.read_peer_routes(peers, agent.parse_documents(section.out), section.err.strip())


def _lines(found: Collected, name: str) -> list[str]:
    section = found.get(name)
    return [line for line in section.out.splitlines() if line] if section else []


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
