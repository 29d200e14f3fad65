"""The control plane: etcd, API server, controller manager and scheduler as plain processes in the lab's namespace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.lab.addresses import API_PORT, AddressPlan
from pytest_k8snet.lab.kubeconfig import kubeconfig
from pytest_k8snet.lab.namespace import MEMORY_FOLDER
from pytest_k8snet.lab.pki import Authority, Pair, signing_pair, write_file

if TYPE_CHECKING:
    from pathlib import Path

_ETCD = "http://127.0.0.1:2379"


@dataclass(frozen=True, slots=True)
class Component:
    """One program of the control plane."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identities:
    """What the rest of a lab needs of its certificates."""

    authority: Authority
    admin: Pair


def write_identities(pki: Path, plan: AddressPlan, lab: str) -> Identities:
    """Make certificates and kubeconfig files of the control plane."""
    authority = Authority(f"k8snet lab {lab}")
    authority.pair.write(pki, "ca")
    signing_pair().write(pki, "service-accounts")
    authority.issue(
        "kube-apiserver",
        dns=("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"),
        addresses=("127.0.0.1", plan.api_address, plan.proxy_api_address, plan.api_service_address),
    ).write(pki, "apiserver")
    authority.issue("kube-apiserver-kubelet-client", groups=("system:masters",)).write(pki, "apiserver-kubelet-client")
    for user in ("kube-controller-manager", "kube-scheduler"):
        text = kubeconfig(
            cluster=lab,
            user=f"system:{user}",
            server=f"https://127.0.0.1:{API_PORT}",
            authority=authority.pair.certificate,
            pair=authority.issue(f"system:{user}"),
        )
        write_file(pki / f"{user}.kubeconfig", text, mode=0o600)
    return Identities(authority, authority.issue("kubernetes-admin", groups=("system:masters",)))


def components(binaries: Path, pki: Path, plan: AddressPlan) -> tuple[Component, ...]:
    """Give the programs in the order in which they are started; none waits for another."""
    etcd = (
        f"--data-dir={MEMORY_FOLDER}/etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    api_server = (
        f"--etcd-servers={_ETCD}",
        f"--advertise-address={plan.api_address}",
        f"--bind-address={'0.0.0.0' if plan.families[0] == 4 else '::'}",  # noqa: S104 - of a namespace that nobody else is in
        f"--secure-port={API_PORT}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-accounts.crt",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--service-cluster-ip-range={','.join(plan.service_cidrs)}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    )
    controller_manager = (
        f"--kubeconfig={pki}/kube-controller-manager.kubeconfig",
        f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )
    scheduler = (
        f"--kubeconfig={pki}/kube-scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )
    return tuple(
        Component(name, (str(binaries / name), *arguments))
        for name, arguments in (
            ("etcd", etcd),
            ("kube-apiserver", api_server),
            ("kube-controller-manager", controller_manager),
            ("kube-scheduler", scheduler),
        )
    )
