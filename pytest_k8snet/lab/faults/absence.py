"""Faults of a cluster that is meant to have no kube-proxy."""

from __future__ import annotations

from typing import Any

from pytest_k8snet.lab.faults.model import EVERY_NODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.faults.rules import flush
from pytest_k8snet.lab.settings import SERVICE_CIDR

KUBE_PROXY = "/k8snet/bin/kube-proxy"
FOLDER = "/run/k8snet-fault"
CONFIGURATION = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: /run/k8snet-fault/kubeconfig}
conntrack: {maxPerCore: 0, min: 0}
"""
START = f"""
umask 077
exec setsid -f sh -c 'echo $$ >{FOLDER}/pid; exec {KUBE_PROXY} --config={FOLDER}/config.yaml' </dev/null >{FOLDER}/log 2>&1
"""
STOP = f'kill "$(cat {FOLDER}/pid)"; rm -f {FOLDER}/pid'


VIRTUAL_SERVER = f"{SERVICE_CIDR[-2]}:80"


def _start(lab: FaultyLab, node: FaultyNode) -> None:
    """Run kube-proxy in iptables mode beside the kubelet, as an installation that nobody removed; wait for its chains."""
    lab.run(node.name, ["mkdir", "-p", "-m", "700", FOLDER])
    lab.run(node.name, ["tee", f"{FOLDER}/config.yaml"], stdin=CONFIGURATION + f"hostnameOverride: {node.name}\n")
    lab.run(node.name, ["dd", "status=none", f"of={FOLDER}/kubeconfig"], stdin=lab.node_kubeconfig)
    lab.run(node.name, ["sh", "-c", START])
    wait_until(
        lambda: "-A KUBE-SERVICES" in lab.run(node.name, ["iptables-legacy-save", "-t", "nat"]).stdout,
        f"kube-proxy on {node.name} to write its chains",
    )


def _stop(lab: FaultyLab, node: FaultyNode) -> None:
    """End kube-proxy and leave its rules where they are."""
    lab.run(node.name, ["sh", "-c", STOP])


def _start_and_stop(lab: FaultyLab, node: FaultyNode) -> None:
    _start(lab, node)
    _stop(lab, node)


def _clean(lab: FaultyLab, node: FaultyNode) -> None:
    flush(lab, node)
    lab.run(node.name, ["rm", "-rf", FOLDER])


def _stop_and_clean(lab: FaultyLab, node: FaultyNode) -> None:
    _stop(lab, node)
    _clean(lab, node)


def _add_virtual_server(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ipvsadm", "-A", "-t", VIRTUAL_SERVER, "-s", "rr"])


def _remove_virtual_server(lab: FaultyLab, node: FaultyNode) -> None:
    lab.run(node.name, ["ipvsadm", "-D", "-t", VIRTUAL_SERVER])


def _daemon_set(lab: FaultyLab, node: FaultyNode) -> dict[str, Any]:
    """Give a DaemonSet of kube-proxy for one node; its container does nothing, so that it stands for itself alone."""
    labels = {"k8s-app": "kube-proxy"}
    pod = {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "nodeSelector": {"kubernetes.io/hostname": node.name},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "kube-proxy", "image": lab.pause_image, "imagePullPolicy": "IfNotPresent"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"namespace": "kube-system", "name": "kube-proxy", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def _install(lab: FaultyLab, node: FaultyNode) -> None:
    daemon_set = _daemon_set(lab, node)
    lab.apply_object(daemon_set)
    wait_until(lambda: (lab.read_object(daemon_set).get("status") or {}).get("numberReady") == 1, "the DaemonSet's pod to be ready")


def _uninstall(lab: FaultyLab, node: FaultyNode) -> None:
    lab.delete_object(_daemon_set(lab, node))


FAULTS = (
    Fault(
        "kube-proxy-left-running",
        area="absence",
        summary="a kube-proxy still runs on the node (iptables mode), and so do its chains",
        turns=(Turns("NET-ABSENCE-001"), Turns("NET-ABSENCE-003")),
        apply=_start,
        revert=_stop_and_clean,
        proxy_modes=("none",),
    ),
    Fault(
        "service-chains-left-over",
        area="absence",
        summary="kube-proxy is gone from the node, its KUBE-SVC chains are still reached by packets",
        turns=(Turns("NET-ABSENCE-003"),),
        apply=_start_and_stop,
        revert=_clean,
        proxy_modes=("none",),
    ),
    Fault(
        "virtual-server-left-over",
        area="absence",
        summary="the IPVS table of the node still has a virtual server of a Service",
        turns=(Turns("NET-ABSENCE-005"),),
        apply=_add_virtual_server,
        revert=_remove_virtual_server,
        proxy_modes=("none",),
    ),
    Fault(
        "kube-proxy-daemonset",
        area="absence",
        summary="an upgrade has brought the DaemonSet of kube-proxy back, for one node; what its pod runs does nothing",
        # By what the API says somebody leads from Services to pods then, and kubelets here give pods no Service's address to ask for names.
        turns=(Turns("NET-ABSENCE-002", subject="cluster"), Turns("NET-DNS-008", subject=EVERY_NODE)),
        apply=_install,
        revert=_uninstall,
        proxy_modes=("none",),
        networks=("native", "vxlan"),
    ),
)
