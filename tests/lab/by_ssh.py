"""Ways to the nodes of a lab by ssh: users, jump hosts, a node without python3; and what of two runs has to be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_k8snet.access.probe_services import PORT
from pytest_k8snet.cluster.ipvs_table import parse_table
from pytest_k8snet.record.store import RunFolder
from tests.lab.suite import Lab

USER = "inspector"
NODE_PORTS = 30000  # the first of them
KINDS = (
    "/api/v1/namespaces",
    "/api/v1/pods",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/coordination.k8s.io/v1/leases",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
)


def config(lab: Lab, folder: Path, text: str = "") -> str:
    """Write an ssh configuration in which `text` comes before the lab's own; return the option."""
    own = Path(lab.kubeconfig).parent / "ssh" / "config"
    path = folder / "ssh-config"
    path.write_text(f"{text}\nInclude {own}\n")
    return f"--k8snet-ssh-config={path}"


@contextmanager
def user(lab: Lab, node: str, *, sudo: bool) -> Iterator[None]:
    """Let a user who is not root log in to a node, with or without leave to use sudo."""
    home = f"/home/{USER}"
    lab.ssh(node, f"useradd -m -p '*' {USER} && cp -r /root/.ssh {home}/ && chown -R {USER} {home}")
    if sudo:
        lab.ssh(node, f"echo '{USER} ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/{USER} && chmod 440 /etc/sudoers.d/{USER}")
    try:
        yield
    finally:
        lab.ssh(node, f"userdel -rf {USER}; rm -f /etc/sudoers.d/{USER}")


@contextmanager
def without_python(lab: Lab, node: str) -> Iterator[None]:
    """Hide python3 from everybody who looks for it on a node."""
    lab.ssh(node, "mv /usr/bin/python3 /root/")
    try:
        yield
    finally:
        lab.ssh(node, "mv /root/python3 /usr/bin/")


def objects(lab: Lab) -> set[str]:
    """Return kind, name and uid of every object of many kinds that is not on its way out."""
    found = [(kind, item["metadata"]) for kind in KINDS for item in lab.client.api.list(kind)]
    return {f"{kind} {metadata['name']} {metadata['uid']}" for kind, metadata in found if not metadata.get("deletionTimestamp")}


def recorded(lab: Lab, title: str, node: str) -> Mapping[str, Any]:
    """Return the facts of a node as a run has recorded them."""
    document = RunFolder(lab.results / title).get("facts", node)
    assert document is not None
    assert document.values is not None, document.reason
    return document.values


def facts(lab: Lab, title: str, node: str) -> dict[str, Any]:
    """Return what of the facts of a node does not depend on the way to it, nor on the moment."""
    values = recorded(lab, title, node)
    # The quality of the clock is read by shell only with tools that not every node has.
    passing = ("activity", "clock", "agent", "tools", "pod", "pod_error", "pod_absent", "peer_routes", "existing_pods_running")
    learned = ("neighbour_entries", "neighbours_ipv6")
    kept = {name: value for name, value in values.items() if name not in (*passing, *learned)}
    kept["errors"] = {name: error for name, error in values["errors"].items() if name != "clock"}
    kept["host"] = _network(values["host"])
    # A probe pod of the run before may still be on its way out.
    kept["existing_pods"] = {pod["name"]: _network(pod) for pod in values["existing_pods"] if not pod["name"].startswith("k8snet-")}
    # While kube-proxy starts a program there is a process that looks like a second one.
    proxy = {**values["kube_proxy"], "processes": {item.partition(": ")[2] for item in values["kube_proxy"]["processes"]}}
    kept["kube_proxy"] = {**proxy, "at_s": proxy["at_s"] is not None, "metrics": sorted(proxy["metrics"] or ())}
    kept["neighbours"] = sorted(values["neighbours"])
    kept["neighbours_ipv6"] = sorted(values["neighbours_ipv6"])
    kept["conntrack"] = {name: value for name, value in values["conntrack"].items() if name != "count"}
    kept["ipvs"] = {"loaded": values["ipvs"]["loaded"], "servers": _servers(values["ipvs"]["table"])}
    kept["qdiscs"] = [item for item in values["qdiscs"] if not item["dev"].startswith("veth")]
    return kept


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return which of two runs' facts differ, and nothing of the many that do not."""
    return {name: (one.get(name), other.get(name)) for name in sorted({*one, *other}) if one.get(name) != other.get(name)}


def _network(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network namespace without the ends of pods that come and go."""
    return {**values, "links": [link for link in values["links"] if link.get("linkinfo", {}).get("info_kind") != "veth"]}


def _servers(table: str | None) -> list[Any]:
    """Return the virtual servers with their schedulers: what is behind them and how much is a matter of the moment.

    Services of the run before, which have NodePorts and port 80, may still be on their way out.
    """
    servers = parse_table(table) if table is not None else ()
    return sorted((server.key, server.scheduler) for server in servers if server.key.port != PORT and server.key.port < NODE_PORTS)
