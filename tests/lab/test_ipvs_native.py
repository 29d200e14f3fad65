"""IPVS and native routing: the healthy cluster is green, and every fault turns exactly its checks red."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.lab.faults.table import FAULTS, unfit
from tests.lab import by_ssh
from tests.lab.rights import least_rights
from tests.lab.suite import NOTHING_TO_JUDGE, Lab, read_junit, running_lab, turned_on

FLAT, IMPATIENT = (Path(__file__).with_name(f"{name}.yaml") for name in ("flat", "impatient"))
PROFILES = tuple(f"--k8snet-profile={profile}" for profile in ("lab", "ipvs", "native", "tuned-node", FLAT))

# Each fault is on a node of its own. What it turns names that node, so the exact union says of each what a run of its own would, and the
# proof takes a third of the time. Faults that use the same means, or that disturb each other's pairs, are apart.
TOGETHER: dict[str, dict[str, str]] = {
    "network": {
        "vxlan-route": "node-2",
        "pod-mtu-1450": "node-1",
        "qdisc-replaced": "node-3",
        "pod-timestamps-off": "node-3",
        "address-duplicate": "node-3",
    },
    "load": {
        "ipvs-scheduler": "node-1",
        "strict-arp-off": "node-1",
        "conntrack-table-nearly-full": "node-1",  # empties by itself, in the time that the load takes
        "pods-queued": "node-1",
        "services-throttled": "node-1",
        "congestion-control-cubic": "node-1",
        "pod-path-throttled": "node-2",
        "pod-datagrams-lost": "node-2",
        "iperf3-server-killed": "node-3",
        "real-server-weight-0": "node-3",
        "conntrack-max-lowered": "node-3",
    },
    "settings": {
        "conntrack-table-full": "node-2",
        "module-unloaded": "node-2",
        "sysctl-reset": "node-2",
        "uplink-mtu-1400": "node-1",
        "node-in-another-region": "node-3",
        "softnet-queue-too-short": "node-3",
        "pods-without-tuning": "node-1",
        "pod-untuned": "node-1",
        "pod-without-route": "node-3",
        "sysctl-not-persisted": "node-3",
        "kubelet-dns-elsewhere": "node-2",
        "neighbour-entry-stale": "node-2",
    },
    "objects": {
        "service-range-overlaps": "node-1",
        "webhook-left-over": "node-1",
        "proxy-mode-misspelt": "node-1",
        "route-left-over": "node-1",
        "ipvs-without-conntrack": "node-1",
        "pod-mtu-former": "node-1",
        "pod-dns-former": "node-2",
        "neighbour-table-small": "node-2",
        "uplink-forwarding-off": "node-2",
        "proxy-syncs-fail": "node-3",
    },
    "coredns": {"corefile-loop": "node-2", "coredns-unready": "node-3"},
    "crossing": {
        "pods-cut-off-by-tcp": "node-1",
        "vxlan-behind-route": "node-1",
        "node-cut-off-from-pods": "node-2",
        "node-closed-to-its-pods": "node-2",
        "pods-masqueraded": "node-2",
        "reverse-path-filtered": "node-3",
        "egress-masqueraded": "node-3",
        "load-balancer-address-twice": "node-1",
    },
    "answers": {
        "dns-server-cut": "node-1",
        "dns-second-answer-dropped": "node-2",
        "dns-tcp-dropped": "node-3",
        "node-ports-firewalled": "node-1",
        "hairpin-dropped": "node-2",
        "api-server-cut-from-pods": "node-3",
        "mtu-black-hole": "node-1",
        "frag-needed-dropped": "node-2",
        "segments-clamped": "node-3",
    },
    "services": {
        "proxy-mode-iptables": "node-3",
        "services-taken": "node-1",
        "affinity-lost": "node-2",
        "idle-connections-forgotten": "node-2",
        "endpoint-dead": "node-3",
        "endpoints-stuck": "node-2",
    },
    "slowness": {"webhooks-cut-off": "node-1", "path-narrower": "node-1", "pods-delayed": "node-2", "dns-servers-slow": "node-3"},
    "hogged": {"processor-hogged": "node-1", "pod-ports-few": "node-3"},
    "lost": {
        "packets-lost-before-uplink": "node-1",
        "packets-lost-after-uplink": "node-2",
        "stale-endpoint": "node-2",
        "packets-lost-on-the-wire": "node-3",
        "load-balancer-address-unowned": "node-1",
    },
}


#: What takes long, because paths are filled, or packets are waited for that never come, or connections are left idle, or a cluster is
#: to take in what has become of its objects.
MEASURED = ("load", "objects", "coredns", "crossing", "answers", "services", "slowness", "lost")
ASKED_FOR = {
    "network": ("--k8snet-conntrack-burst=600",),
    "load": ("--k8snet-udp=5mbit",),
    "services": ("--k8snet-idle=30",),
    # Times between nodes of which one waits for its processor are inconclusive, or are not.
    "hogged": ("--k8snet-checks=NET-NODE-*,NET-KERNEL-002,NET-CONNTRACK-004", "--k8snet-conntrack-burst=600"),
}


@pytest.fixture(scope="module")
def lab(results: Path) -> Iterator[Lab]:
    with running_lab("test-ipvs", results, "--nodes", "3", "--proxy-mode", "ipvs", "--line-rate", "50mbit") as lab:
        yield lab


def test_healthy(lab: Lab) -> None:
    outcome = lab.run_healthy("healthy", *PROFILES)
    assert outcome.noteworthy == set(), outcome.output
    assert outcome.exit_status == 0
    assert outcome.skipped_checks == (NOTHING_TO_JUDGE - {"NET-REACH-005"}) | {
        "NET-ABSENCE-001",
        "NET-ABSENCE-002",
        "NET-ABSENCE-003",
        "NET-ABSENCE-004",
        "NET-ABSENCE-005",
        "NET-ENCAP-002",
        "NET-MTU-003",
    }


def test_by_ssh_the_verdicts_and_facts_are_those_by_pods_and_nothing_is_made(lab: Lab, tmp_path: Path) -> None:
    """One node as root; one as a user with sudo; one through the first as jump host, without python3. The account may only read."""
    ways = (
        f"Host node-2\n    User {by_ssh.USER}\nHost behind\n    HostName {lab_address(lab, 'node-3')}\n    Port 22\n"
        "    HostKeyAlias node-3\n    ProxyJump node-1"
    )
    options = (by_ssh.config(lab, tmp_path, ways), "--k8snet-access=ssh", "--k8snet-ssh-map=node-3=behind", "--k8snet-load-pairs=sample:2")
    account = least_rights(lab, tmp_path, "--level", "load", "--access", "ssh")
    before = by_ssh.objects(lab)
    with by_ssh.user(lab, "node-2", sudo=True), by_ssh.without_python(lab, "node-3"):
        outcome = lab.run_healthy("ssh", *PROFILES, *options, kubeconfig=account)
    assert by_ssh.objects(lab) <= before, "nothing was made; what an earlier run made may have gone meanwhile"
    assert outcome.exit_status == 0, outcome.output
    assert f"k8snet: access ssh as root (2), {by_ssh.USER} (1); no object is made in the cluster" in outcome.output
    by_pods, _ = read_junit(lab.results / "healthy.xml")
    podless = {"NET-ENCAP-004", "NET-KERNEL-002", "NET-LOSS-001", "NET-MTU-001", "NET-THROUGHPUT-001", "NET-THROUGHPUT-003"}
    podless |= {"NET-THROUGHPUT-004", "NET-CONNTRACK-004"}
    podless |= {f"NET-REACH-00{number}" for number in (1, 2, 3, 4, 5)}
    podless |= {f"NET-DNS-00{n}" for n in range(4, 8)} | {f"NET-SERVICE-00{n}" for n in range(1, 10)}
    podless |= {"NET-CONTROL-009", "NET-LATENCY-001", "NET-MTU-005", "NET-MTU-006", "NET-SERVICE-010"}
    by_shell = {("NET-THROUGHPUT-002", "node-2:node-3"), ("NET-CONTROL-008", "node-3"), ("NET-NODE-006", "node-3")}
    by_shell |= {("NET-REACH-008", "node-3")}
    other_pairs = {subject for _, subject in by_pods if ":" in subject} - {"node-1:node-2", "node-2:node-3"}
    beyond = {case for case in by_pods if case[0] in podless} | by_shell
    assert outcome.verdicts == {
        case: "skip" if case in beyond else verdict for case, verdict in by_pods.items() if case[1] not in other_pairs
    }
    for case in beyond & outcome.messages.keys():
        shell = case in by_shell or case[1] == "node-2:node-3"
        reason = "the node has no python3; by shell alone only" if shell else "access ssh makes no probe pods"
        assert reason in outcome.messages[case]
    # What the lab's first run has read may be of a kube-proxy that has not seen to both address families yet.
    by_pods_now = lab.run_suite("by-pods", *PROFILES, "--k8snet-level=read", "--k8snet-checks=NET-KERNEL-001")
    assert by_pods_now.exit_status == 0, by_pods_now.output
    for node in ("node-1", "node-2", "node-3"):
        assert by_ssh.differing(by_ssh.facts(lab, "ssh", node), by_ssh.facts(lab, "by-pods", node)) == {}
    read_by = {node: by_ssh.recorded(lab, "ssh", node)["agent"] for node in ("node-1", "node-2", "node-3")}
    assert read_by == {"node-1": "python", "node-2": "python", "node-3": "shell"}


def test_by_ssh_what_keeps_a_run_out_of_a_node_is_told(lab: Lab, tmp_path: Path) -> None:
    """A host key that is not known, a sudo that wants a password, a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ways = f"Host node-1\n    HostKeyAlias stranger\nHost node-2\n    User {by_ssh.USER}\nHost node-3\n    Port {port}"
    with by_ssh.user(lab, "node-2", sudo=False):
        outcome = lab.run_suite(
            "ssh-refused",
            by_ssh.config(lab, tmp_path, ways),
            "--k8snet-access=ssh",
            "--k8snet-level=read",
            "--k8snet-checks=NET-KERNEL-006",
        )
    assert outcome.exit_status == 1
    messages = {node: text for (_, node), text in outcome.messages.items()}
    assert set(outcome.verdicts.values()) == {"error"}
    assert re.search(
        r"the host key of stranger is not known: ED25519 SHA256:\S+\. .*ssh-keyscan -t ed25519 -p \d+ 127\.0\.0\.1 \| sed ",
        messages["node-1"],
    )
    assert (
        f"sudo refused: sudo: a password is required. Reading the kernel's state takes root: put `{by_ssh.USER} ALL=" in messages["node-2"]
    )
    assert f"127.0.0.1 port {port}: Connection refused" in messages["node-3"]


def lab_address(lab: Lab, name: str) -> str:
    node = lab.client.read({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    return str(node["status"]["addresses"][0]["address"])


def test_every_fault_of_this_lab_is_applied() -> None:
    of_this_lab = (
        fault.name for fault in FAULTS if unfit(fault, "ipvs", "native", has_ingress=False, has_policy=False, has_ipv6=False) is None
    )
    assert sorted(name for faults in TOGETHER.values() for name in faults) == sorted(of_this_lab)


@pytest.mark.parametrize("title", [pytest.param(name, marks=[pytest.mark.part("measured")] * (name in MEASURED)) for name in TOGETHER])
def test_faults_turn_exactly_their_cases(lab: Lab, title: str) -> None:
    # What never happens is waited for as long as it may take, and slow is what is slower: the profile lab is generous with both.
    outcome = turned_on(lab, TOGETHER[title], *PROFILES, f"--k8snet-profile={IMPATIENT}", *ASKED_FOR.get(title, ()))
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1


@pytest.mark.part("measured")
def test_a_node_whose_kubelet_the_api_server_does_not_reach(lab: Lab) -> None:
    """Exec goes the same way, so that nothing else can be measured of it: one check says why, and it is no fault of a list."""
    place = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": "default", "name": "kubernetes"}}
    address = lab.client.read(place)["subsets"][0]["addresses"][0]["ip"]
    rule = ("INPUT", "-s", address, "-p", "tcp", "--dport", "10250", "-j", "DROP")
    lab.ssh("node-2", "iptables-legacy", "-w", "-I", *rule)
    try:
        outcome = lab.run_suite("kubelet-cut-off", *PROFILES, "--k8snet-level=probe", "--k8snet-checks=NET-CONTROL-009,NET-KERNEL-003")
    finally:
        lab.ssh("node-2", "iptables-legacy", "-w", "-D", *rule)
    assert outcome.noteworthy == {("NET-CONTROL-009", "node-2", "fail"), ("NET-KERNEL-003", "node-2", "error")}, outcome.output
    said = outcome.messages["NET-CONTROL-009", "node-2"]
    assert "node-2: the API server does not reach the kubelet: " in said
    assert ":10250/containerLogs/" in said
