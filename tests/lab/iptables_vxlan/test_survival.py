"""What happens to a cluster while a run is under way: nothing is lost, nothing is green that was not measured, nothing stays behind."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.lab.faults.polling import wait_until
from tests.lab.power import paused, power_off, restart_api_server
from tests.lab.slow import slow_way
from tests.lab.suite import Lab, assert_nothing_is_left, has_begun

FEW = ("--k8snet-level=read", "--k8snet-checks=NET-KERNEL-006,NET-MTU-001")
LOADED = ("--k8snet-profile=lab", "--k8snet-checks=NET-MTU-001,NET-THROUGHPUT-*", "--k8snet-load-pairs=sample:1")
NODES = ("node-1", "node-2", "node-3")
PAIR = "node-1:node-2"
THROUGHPUT = {(f"NET-THROUGHPUT-{number:03}", PAIR) for number in (1, 2, 3, 4)}


def test_api_server_that_restarts_under_load(lab: Lab) -> None:
    with lab.started_suite("api-restart", *LOADED) as run:
        wait_until(lambda: has_begun(lab, "api-restart"), "the throughput to be measured")
        restart_api_server(lab, down_s=3.0)
        outcome = lab.outcome("api-restart", run)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    document = throughput(lab, "api-restart")
    assert "the exec stream" in document["retried"]
    assert_nothing_is_left(lab)


@pytest.mark.part("survival")
def test_kubelet_that_restarts_under_load(lab: Lab) -> None:
    with lab.started_suite("kubelet-restart", *LOADED) as run:
        wait_until(lambda: has_begun(lab, "kubelet-restart"), "the throughput to be measured")
        lab.ssh("node-2", "kill", lab.ssh("node-2", "pidof", "kubelet").strip())
        outcome = lab.outcome("kubelet-restart", run)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert_nothing_is_left(lab)


@pytest.mark.part("survival")
def test_node_that_stands_still_and_one_whose_clock_is_off(lab: Lab) -> None:
    """A pause of 20 s, while its probe pods start, and another node's clock an hour ahead, change no verdict."""
    lab.ssh("node-3", "date", "--set", "+1 hour")
    try:
        with lab.started_suite("paused", *FEW) as run:
            wait_until(lambda: len(lab.objects_of_runs()) > len(NODES), "pods to be made", interval_s=0.1)
            with paused(lab, "node-2"):
                time.sleep(20)
            outcome = lab.outcome("paused", run)
    finally:
        lab.ssh("node-3", "date", "--set", "-1 hour")
    assert outcome.exit_status == 0, outcome.output
    assert set(outcome.verdicts.values()) == {"pass"}
    assert len(outcome.verdicts) == 2 * len(NODES)
    assert_nothing_is_left(lab)


@pytest.mark.part("survival")
def test_api_server_far_away(lab: Lab, tmp_path: Path) -> None:
    """Two seconds a round trip: the run takes longer, and says the same."""
    with slow_way(lab.kubeconfig, tmp_path, delay_s=1.0) as kubeconfig:
        outcome = lab.run_suite("far-away", *FEW, kubeconfig=kubeconfig)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert len(outcome.verdicts) == 2 * len(NODES)
    assert_nothing_is_left(lab)


@pytest.mark.part("survival")
def test_probe_pod_that_runs_out_of_memory(lab: Lab) -> None:
    """Its pair is an error that names the reason; what was measured before is judged."""
    with lab.started_suite("out-of-memory", *LOADED) as run:
        wait_until(lambda: has_begun(lab, "out-of-memory"), "the throughput to be measured")
        namespace, uid = pod_uid(lab, "probe-node-2")
        lab.ssh("node-2", f"echo 100K >$(find /sys/fs/cgroup -type d -name '*pod{uid}*' | head -1)/memory.max")
        outcome = lab.outcome("out-of-memory", run)
    assert outcome.exit_status == 1
    assert {verdict for (check, _), verdict in outcome.verdicts.items() if check == "NET-MTU-001"} == {"pass"}
    assert outcome.noteworthy == {(f"NET-THROUGHPUT-00{number}", PAIR, "error") for number in (1, 3, 4)}, outcome.output
    assert f"pod {namespace}/probe-node-2: the probe pod OOMKilled" in outcome.messages["NET-THROUGHPUT-001", PAIR]
    assert_nothing_is_left(lab)


@pytest.mark.part("survival")
def test_node_that_is_switched_off_under_load(lab: Lab) -> None:
    """The last test of this lab: the node does not come back."""
    with lab.started_suite("switched-off", *LOADED) as run:
        wait_until(lambda: has_begun(lab, "switched-off"), "the throughput to be measured")
        power_off(lab, "node-2")
        outcome = lab.outcome("switched-off", run)
    assert outcome.exit_status == 1
    assert {verdict for (check, _), verdict in outcome.verdicts.items() if check == "NET-MTU-001"} == {"pass"}
    assert outcome.noteworthy == {(check, pair, "error") for check, pair in THROUGHPUT}, outcome.output
    assert_nothing_is_left(lab)


def throughput(lab: Lab, title: str) -> Mapping[str, Any]:
    (file,) = (lab.results / title / "throughput").glob("*.json")
    document: Mapping[str, Any] = json.loads(file.read_text())
    return document


def pod_uid(lab: Lab, name: str) -> tuple[str, str]:
    """Return namespace and uid of a probe pod."""
    pods = lab.client.api.list("/api/v1/pods", labelSelector="app.kubernetes.io/managed-by=pytest-k8snet")
    metadata = next(pod["metadata"] for pod in pods if pod["metadata"]["name"] == name)
    return metadata["namespace"], metadata["uid"]
