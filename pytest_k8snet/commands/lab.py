"""``k8snet lab``: a real Kubernetes cluster on this machine, to try the suite on and to break."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_k8snet.commands.writing import writing
from pytest_k8snet.errors import K8sNetError, LabError
from pytest_k8snet.lab.progress import open_progress
from pytest_k8snet.lab.settings import (
    INGRESS_KINDS,
    IP_FAMILIES,
    NETWORK_KINDS,
    NODE_KERNEL_CHOICES,
    POLICY_KINDS,
    PROXY_MODES,
    LabSettings,
    proxy_mode_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pytest_k8snet.lab.running import RunningLab
    from pytest_k8snet.lab.state import LabFolder

_DEFAULT = LabSettings()
_TAIL_LINES = 40


@contextmanager
def _told() -> Iterator[None]:
    """Show what went wrong as one message, and let SIGTERM clean up as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except K8sNetError as error:
        raise click.ClickException(str(error)) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _name_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--name", default=_DEFAULT.name, show_default=True, metavar="NAME", help="Which lab.")(function)


def _components_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--components",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="A folder with ready binaries (kubelet, etcd, ...), to be used before cache, download and build.",
    )(function)


def _running(name: str) -> RunningLab:
    from pytest_k8snet.lab.running import RunningLab
    from pytest_k8snet.lab.state import LabFolder

    return RunningLab.find(LabFolder(name))


@click.group("lab")
def command() -> None:
    """Start a real Kubernetes cluster on this machine, without Docker and without KVM, and break it on purpose."""


@command.command("prepare")
@_components_option
def prepare(components: Path | None) -> None:
    """Get everything that labs need into the cache: kernel, node root, Kubernetes, images. `up` does it too."""
    with _told(), open_progress() as progress:
        from pytest_k8snet.lab.prepare import prepare as prepare_all

        prepare_all(components_dir=components, progress=progress)


@command.command("up")
@_name_option
@click.option("--nodes", type=int, default=_DEFAULT.nodes, show_default=True, metavar="N", help="How many nodes: node-1, node-2, ...")
@click.option("--proxy-mode", type=click.Choice(PROXY_MODES), help="Mode of kube-proxy; by default ipvs, and none with Cilium.")
@click.option(
    "--network",
    type=click.Choice(NETWORK_KINDS),
    default=_DEFAULT.network,
    show_default=True,
    help="How pods of different nodes reach each other: by plain routes or in VXLAN that the lab lays, by flannel, BGP (BIRD) or Cilium.",
)
@click.option("--line-rate", metavar="RATE", help="Speed of every node's wire, such as 50mbit; by default as fast as it goes.")
@click.option("--pod-cidr", default=_DEFAULT.pod_cidr, show_default=True, metavar="RANGE", help="Addresses of pods; each node gets a /24.")
@click.option(
    "--subnets",
    type=int,
    default=_DEFAULT.subnets,
    show_default=True,
    metavar="N",
    help="Segments of the nodes' network: 2 have a router between them, node-2, node-4, ... are in the second one.",
)
@click.option("--direct-routing", is_flag=True, help="Let flannel encapsulate only what goes to nodes of another segment.")
@click.option("--node-subnet", default=_DEFAULT.node_subnet, show_default=True, metavar="RANGE", help="Addresses of nodes.")
@click.option(
    "--node-kernel",
    type=click.Choice(NODE_KERNEL_CHOICES),
    default=_DEFAULT.node_kernel,
    show_default=True,
    help="What nodes run on: User-Mode Linux, or QEMU with Debian's kernel (slow without KVM); auto: QEMU where it must be.",
)
@click.option(
    "--ingress",
    type=click.Choice(INGRESS_KINDS),
    default=_DEFAULT.ingress,
    show_default=True,
    help="nginx: Debian's nginx in a pod, which Ingresses of the class nginx lead through; the profile lab-ingress judges it.",
)
@click.option(
    "--policy",
    type=click.Choice(POLICY_KINDS),
    default=_DEFAULT.policy,
    show_default=True,
    help="kube-router: enforces NetworkPolicies on every node, and does nothing else.",
)
@click.option(
    "--ip-family",
    type=click.Choice(IP_FAMILIES),
    default=_DEFAULT.ip_family,
    show_default=True,
    help="Addresses of nodes, pods and Services: of one family, or of both. IPv6 takes the network native.",
)
@_components_option
def up(components: Path | None, **values: Any) -> None:
    """Start a lab, and return when its nodes are Ready and its own pods run."""
    with _told(), open_progress() as progress:
        settings = LabSettings(**{**values, "proxy_mode": values["proxy_mode"] or proxy_mode_for(values["network"])})
        from pytest_k8snet.lab.cluster import up as start

        folder = start(settings, components_dir=components, progress=progress)
        progress.say(f"lab {settings.name} is up: export KUBECONFIG={folder.kubeconfig}")
        progress.say(
            f"its nodes by ssh: pytest --k8snet-kubeconfig=$KUBECONFIG --k8snet-access=ssh --k8snet-ssh-config={folder.ssh / 'config'}"
        )


@command.command("down")
@_name_option
def down(name: str) -> None:
    """Stop a lab and remove everything of it, also when its start was killed."""
    with _told(), open_progress() as progress:
        from pytest_k8snet.lab.cluster import down as stop

        if not stop(name, progress):
            progress.say(f"there is no lab {name}")


@command.command("status")
@click.option("--name", default=None, metavar="NAME", help="Which lab; all by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(name: str | None, as_json: bool) -> None:
    """Say which labs there are, and how they are."""
    from pytest_k8snet.lab.state import LabFolder, all_labs

    with _told():
        labs = all_labs() if name is None else [LabFolder(name)]
        found = [_described(folder) for folder in labs]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for lab in found:
        settings = lab["settings"]
        if settings is None:
            click.echo(f"{lab['name']}: broken, {lab['problem']}; remove it: k8snet lab down --name {lab['name']}")
            continue
        click.echo(
            f"{lab['name']}: {lab['condition']}, {settings['nodes']} nodes, proxy mode {settings['proxy_mode']}, "
            f"network {settings['network']}, line rate {settings['line_rate'] or 'not limited'}, kubeconfig {lab['kubeconfig']}"
        )
        if lab["ended"]:
            click.echo(f"  ended: {', '.join(lab['ended'])}")
    if not found:
        click.echo("no lab; start one with: k8snet lab up")


def _described(folder: LabFolder) -> dict[str, Any]:
    described: dict[str, Any] = {"name": folder.name, "condition": "broken", "problem": None, "settings": None}
    if not folder.has_state:
        folder.read()  # says that there is no such lab, and which there are
    try:
        state = folder.read()
    except LabError as error:
        return described | {"problem": str(error)}
    return described | {
        "condition": folder.condition(state),
        "settings": state.settings.to_json(),
        "kubeconfig": str(folder.kubeconfig),
        "ports": dict(state.ports),
        "ended": [process.name for process in state.processes if not process.is_running],
    }


@command.command("kubeconfig")
@_name_option
def kubeconfig(name: str) -> None:
    """Print the path of a lab's kubeconfig."""
    from pytest_k8snet.lab.state import LabFolder

    with _told():
        folder = LabFolder(name)
        state = folder.read()
        if not folder.kubeconfig.is_file():
            raise LabError(f"lab {name} has no kubeconfig: it is {folder.condition(state)}")
    click.echo(folder.kubeconfig)


@command.command("ssh", context_settings={"ignore_unknown_options": True})
@_name_option
@click.argument("node")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, node: str, argv: tuple[str, ...]) -> None:
    """Open a shell on a node, or run a command there: `k8snet lab ssh node-2 -- ip route`. Passes output and exit status through."""
    with _told():
        words = _running(name).ssh_command(node, argv)
        program = shutil.which(words[0])
        if program is None:
            raise LabError("ssh is not installed; on Debian: apt-get install openssh-client")
    sys.stdout.flush()
    os.execv(program, words)  # noqa: S606 - no shell is wanted


@command.command("logs")
@_name_option
@click.option("--lines", type=click.IntRange(min=0), default=_TAIL_LINES, show_default=True, help="How many lines from the end; 0 for all.")
@click.argument("log", required=False)
def logs(name: str, lines: int, log: str | None) -> None:
    """Print a log of a lab (kube-apiserver, node-2, node-2/kubelet, ...), or the names of all without LOG."""
    from pytest_k8snet.lab.state import LabFolder

    with _told():
        folder = LabFolder(name)
        folder.read()
        known = folder.all_logs()
        if log is None:
            for title, path in known.items():
                click.echo(f"{title:<28} {path.stat().st_size:>10} bytes  {path}")
            return
        if log not in known:
            raise LabError(f"lab {name} has no log {log!r}; it has {', '.join(known)}")
        text = known[log].read_text(errors="replace").splitlines()
    for line in text[-lines:] if lines else text:
        click.echo(line)


@command.group("fault")
def fault_group() -> None:
    """Break one thing on one node, and mend it again."""


@fault_group.command("list")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON: name, area, summary, proxy_modes, networks, with_ingress, with_policy, with_ipv6, turns.",
)
@click.option("--node", default="node-2", show_default=True, metavar="NODE", help="Node whose pairs are named.")
@click.option(
    "--nodes", type=click.IntRange(min=1), default=_DEFAULT.nodes, show_default=True, metavar="N", help="Nodes of the lab, for the pairs."
)
@click.option(
    "--write-docs",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the page of all faults into this file, with the times of faults.json beside it (for maintainers: docs/faults.md).",
)
def fault_list(as_json: bool, node: str, nodes: int, file: Path | None) -> None:
    """List all faults, and the cases of the suite that each of them turns."""
    from pytest_k8snet.lab.faults.matrix import read_rows
    from pytest_k8snet.lab.faults.table import FAULTS, labs_of, page, to_json
    from pytest_k8snet.options import Settings
    from pytest_k8snet.plan import choose_pairs

    if file is not None:
        with _told(), writing(file):
            rows = read_rows(file.with_suffix(".json"))
            file.write_text(page(rows), encoding="utf-8")
        click.echo(f"{len(FAULTS)} faults written to {file}")
        return
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    if node not in names:
        raise click.BadParameter(f"{node} is none of {', '.join(names)}", param_hint="--node")
    pairs = choose_pairs(Settings().load_pairs, names)
    listed = [to_json(known, node, names, pairs) for known in FAULTS]
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    for known, item in zip(FAULTS, listed, strict=True):
        click.echo(f"{known.name}: {known.summary} (labs with {labs_of(known)})")
        for turn in item["turns"]:
            click.echo(f"    {turn['verdict']:<6} {turn['check']}[{turn['subject']}]")


def _fault_command(function: Callable[..., Any]) -> Callable[..., Any]:
    with_node = click.option("--node", required=True, metavar="NODE", help="The node to break, such as node-2.")(function)
    return _name_option(click.argument("fault")(with_node))


@fault_group.command("apply")
@_fault_command
def fault_apply(name: str, fault: str, node: str) -> None:
    """Break one thing on a node, and return when it is broken."""
    _change(name, fault, node, "apply")


@fault_group.command("revert")
@_fault_command
def fault_revert(name: str, fault: str, node: str) -> None:
    """Mend what `apply` broke."""
    _change(name, fault, node, "revert")


def _change(name: str, fault: str, node: str, word: str) -> None:
    from pytest_k8snet.lab.faults.table import fault as find_fault
    from pytest_k8snet.lab.faults.table import unfit

    with _told(), open_progress() as progress:
        known = find_fault(fault)
        lab = _running(name)
        has = {"has_ingress": lab.has_ingress, "has_policy": lab.has_policy, "has_ipv6": lab.has_ipv6}
        if wanted := unfit(known, lab.proxy_mode, lab.network, **has):
            lacking = ", and no ingress" if known.with_ingress and not lab.has_ingress else ""
            lacking += ", and nothing that enforces NetworkPolicies" if known.with_policy and not lab.has_policy else ""
            lacking += ", and no IPv6" if known.with_ipv6 and not lab.has_ipv6 else ""
            raise LabError(
                f"fault {fault} is for labs with {wanted}; lab {name} has proxy mode {lab.proxy_mode}, network {lab.network}{lacking}"
            )
        target = lab.node(node)
        with progress.step(f"{fault} on {node}: {word}"):
            (known.apply if word == "apply" else known.revert)(lab, target)
