"""iptables mode over vxlan: the healthy cluster is green. And what a run meets on a cluster that does not let it, and how it ends."""

from __future__ import annotations

import json
import re
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pytest_k8snet.cluster.lease import LEASES
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.node_files import CNI_CONFIGURATION
from tests.lab.gateway import watched
from tests.lab.rights import least_rights
from tests.lab.suite import NOTHING_TO_JUDGE, Lab, assert_nothing_is_left, has_begun, k8snet, turned_on

FEW = ("--k8snet-level=read", "--k8snet-checks=NET-KERNEL-006,NET-MTU-001")
SERVICES_AND_LOAD = ("--k8snet-checks=NET-SERVICE-001,NET-THROUGHPUT-001", "--k8snet-load-pairs=sample:1")
TOGETHER = {
    "ingress": {
        "ingress-without-kept-connections": "node-1",
        "ingress-closing-clients": "node-1",
        "ingress-small-buffers": "node-1",
        "ingress-without-hsts": "node-1",
        "ingress-endpoints-late": "node-1",
    },
    "ingress-read": {"ingress-unknown-key": "node-3", "ingress-reload-refused": "node-3"},
    "ingress-shut": {"ingress-of-one-namespace": "node-1"},
}
INGRESS = ("--k8snet-profile=lab", "--k8snet-profile=lab-ingress")
NODES = ("node-1", "node-2", "node-3")


def test_healthy_and_nothing_outside_the_cluster_is_contacted(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("lab", "iptables", "vxlan", "tuned-node", "lab-ingress")
    profiles = [f"--k8snet-profile={name}" for name in names]
    monkeypatch.setenv("K8SNET_TEST_CONNECTIONS", str(tmp_path / "connections"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    with watched(lab, tmp_path / "gateway.json") as sent_outside:
        outcome = lab.run_healthy("healthy", *profiles, "--k8snet-load-pairs=sample:2", "-p", "tests.lab.connections")
    assert sent_outside == {}, "packets that the nodes sent beyond the lab"
    assert {*(tmp_path / "connections").read_text().split()} == {"127.0.0.1"}, "the API server's address, and no other"
    assert outcome.noteworthy == set(), outcome.output
    assert outcome.exit_status == 0
    of_ingress = {check for check in NOTHING_TO_JUDGE if check.startswith("NET-INGRESS-")} | {"NET-DNS-003"}
    assert outcome.skipped_checks == (NOTHING_TO_JUDGE - of_ingress) | {
        *(f"{check}['node-1', 'node-2']" for check in ("NET-DNS-003", "NET-INGRESS-010")),  # nginx runs on the third
        "NET-ABSENCE-001",
        "NET-ABSENCE-002",
        "NET-ABSENCE-003",
        "NET-ABSENCE-004",
        "NET-ABSENCE-005",
        "NET-PROXY-003",
        "NET-PROXY-004",
        "NET-PROXY-005",
        "NET-PROXY-006",
    }


@pytest.mark.parametrize("title", ["ingress", "ingress-read", pytest.param("ingress-shut", marks=pytest.mark.part("ingress-shut"))])
def test_faults_turn_exactly_their_cases(lab: Lab, title: str) -> None:
    """Where one keeps requests out of the ingress, what the others turn is not judged; that takes as long as a controller may."""
    outcome = turned_on(lab, TOGETHER[title], *INGRESS, "--k8snet-checks=NET-INGRESS-*")
    assert outcome.noteworthy == outcome.declared, outcome.output
    assert outcome.exit_status == 1


def test_claims_and_the_least_rights_are_enough_and_xdist_says_the_same(lab: Lab, tmp_path: Path) -> None:
    """Without a profile the cluster's own claims are judged; the account may do what `k8snet manifests rbac` prints and nothing else."""
    account = least_rights(lab, tmp_path, "--level", "read")
    alone = lab.run_suite("claims", "--k8snet-level=read", "-p", "no:xdist", kubeconfig=account)
    assert alone.noteworthy == set(), alone.output
    assert alone.exit_status == 0
    shared = lab.run_suite("claims-xdist", "--k8snet-level=read", "-n", "2", kubeconfig=account)
    assert (shared.exit_status, shared.verdicts) == (0, alone.verdicts), shared.output
    assert_nothing_is_left(lab)


def test_a_right_that_is_missing_is_named_before_anything_is_made(lab: Lab, tmp_path: Path) -> None:
    account = least_rights(lab, tmp_path, "--level", "probe", without="endpointslices")
    with lab.started_suite("lacking", "--k8snet-level=probe", kubeconfig=account) as run:
        assert run.wait(60) == 1
    output = (lab.results / "lacking.txt").read_text()
    assert (
        f"k8snet: the identity of kubeconfig {account} lacks: list endpointslices.discovery.k8s.io. "
        "`k8snet manifests rbac --level probe` prints a role that has everything that is needed."
    ) in output
    assert "forbidden" not in output
    assert lab.objects_of_runs() == []


def test_in_a_namespace_that_is_there_few_rights_are_cluster_wide(lab: Lab, tmp_path: Path) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    lab.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "measured", "labels": labels}})
    account = least_rights(lab, tmp_path, "--level", "probe", "--ingress", "--namespace", "measured")
    asked = ("--k8snet-level=probe", f"{FEW[1]},NET-INGRESS-*", *INGRESS, "--k8snet-namespace=measured")
    outcome = lab.run_suite("namespace", *asked, kubeconfig=account)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert_nothing_is_left(lab)


@pytest.mark.part("survival")
def test_runs_that_measure_load_take_turns(lab: Lab, tmp_path: Path) -> None:
    """While one run measures load the other one waits; both with the least rights."""
    account = least_rights(lab, tmp_path, "--level", "load")
    options = ("--k8snet-checks=NET-THROUGHPUT-001", "--k8snet-load-pairs=sample:1")
    with lab.started_suite("first", *options, kubeconfig=account) as first:
        wait_until(lambda: holders(lab) != [], "the Lease to be taken", interval_s=0.1)
        (holder,) = holders(lab)
        second = lab.run_suite("second", *options, kubeconfig=account)
        assert (first.wait(120), second.exit_status) == (0, 0), second.output
    assert f"k8snet: {holder} measures load in this cluster since " in second.output
    periods = [period(lab, title) for title in ("first", "second")]
    assert periods[0][1] < periods[1][0], periods
    assert_nothing_is_left(lab)


def holders(lab: Lab) -> list[str]:
    """Return who holds the Lease."""
    return [item["spec"]["holderIdentity"] for item in lab.client.api.list(LEASES) if item["metadata"]["name"] == "k8snet-load"]


def period(lab: Lab, title: str) -> tuple[datetime, datetime]:
    """Return when a run has measured load."""
    document = json.loads((lab.results / title / "throughput" / "node-1%3Anode-2.json").read_text())
    begun = datetime.fromisoformat(document["started"])
    return begun, begun + timedelta(seconds=document["duration_s"])


def test_image_that_cannot_be_pulled(lab: Lab) -> None:
    outcome = lab.run_suite("image", *FEW, "--k8snet-image=registry.invalid/probe:1")
    assert outcome.exit_status == 1
    assert outcome.verdicts == {(check, node): "error" for check in ("NET-KERNEL-006", "NET-MTU-001") for node in NODES}
    for (_, node), message in outcome.messages.items():
        assert re.search(rf"{node}: no facts: pod k8snet-\S+/(host|probe)-{node}: .*registry\.invalid/probe:1", message), message
    assert_nothing_is_left(lab)


def test_pods_that_admission_refuses(lab: Lab) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted"}}
    lab.client.apply({**namespace, "metadata": {"name": "restricted", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    outcome = lab.run_suite("refused", *FEW, "--k8snet-namespace=restricted")
    assert outcome.exit_status == 1
    assert set(outcome.verdicts.values()) == {"error"}
    for (_, node), message in outcome.messages.items():
        assert f"{node}: no facts: namespace restricted: it enforces the Pod Security level restricted" in message
        assert "Label it pod-security.kubernetes.io/enforce=privileged" in message
    assert lab.client.read(namespace)["metadata"]["name"] == "restricted", "a namespace that was there before stays"
    assert_nothing_is_left(lab)


def test_a_node_that_is_not_ready(lab: Lab) -> None:
    """Its cases are errors that name the reason; the other nodes are judged."""
    lab.ssh("node-3", "mv", CNI_CONFIGURATION, "/root/")
    try:
        wait_until(lambda: not is_ready(lab, "node-3"), "node-3 to be NotReady")
        outcome = lab.run_suite("not-ready", *FEW)
        allowed = lab.run_suite("not-ready-allowed", *FEW, "--k8snet-allow-missing=1")
    finally:
        # Not mv: containerd does not look at a file that was not written.
        lab.ssh("node-3", "cp", f"/root/{Path(CNI_CONFIGURATION).name}", CNI_CONFIGURATION)
    wait_until(lambda: is_ready(lab, "node-3"), "node-3 to be Ready")
    assert outcome.exit_status == 1
    assert outcome.noteworthy == {(check, "node-3", "error") for check in ("NET-KERNEL-006", "NET-MTU-001")}, outcome.output
    assert all("NetworkPluginNotReady" in outcome.messages[check, "node-3"] for check in ("NET-KERNEL-006", "NET-MTU-001"))
    assert allowed.exit_status == 0, allowed.output
    assert allowed.noteworthy == outcome.noteworthy, "an error that is allowed is still shown as one"


def test_ctrl_c_in_a_measurement_removes_what_was_made(lab: Lab) -> None:
    with lab.started_suite("interrupted", *SERVICES_AND_LOAD) as run:
        wait_until(lambda: has_begun(lab, "interrupted"), "the throughput to be measured")
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 2
    assert_nothing_is_left(lab)


def test_sigterm_while_pods_start_removes_what_was_made(lab: Lab) -> None:
    with lab.started_suite("terminated") as run:
        wait_until(lambda: len(lab.objects_of_runs()) > len(NODES), "pods to be made", interval_s=0.1)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 143
    assert_nothing_is_left(lab)


def test_what_a_killed_run_left_is_removed_by_cleanup(lab: Lab) -> None:
    with lab.started_suite("killed", *SERVICES_AND_LOAD) as run:
        wait_until(lambda: has_begun(lab, "killed"), "the throughput to be measured")
        run.send_signal(signal.SIGKILL)
        run.wait(60)
    left = lab.objects_of_runs()
    assert len(left) == 5 + 3 * len(NODES), left  # namespace, priority class, Lease, two Services of several; two pods and a Service a node
    assert k8snet("cleanup", "--kubeconfig", lab.kubeconfig).startswith("nothing to remove\nkept 3 that are younger")
    assert "would remove Namespace k8snet-" in k8snet("cleanup", "--kubeconfig", lab.kubeconfig, "--all", "--dry-run")
    assert lab.objects_of_runs() == left
    assert "removed Namespace k8snet-" in k8snet("cleanup", "--kubeconfig", lab.kubeconfig, "--older-than", "1s")
    assert_nothing_is_left(lab)


def is_ready(lab: Lab, name: str) -> bool:
    node = lab.client.read({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in node["status"]["conditions"])
