"""Fetching bundles from the pods of a Job, which are processes here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import AccessError, ClusterError
from pytest_k8snet.shards import collect
from tests.unit.fakeapi import FakeApiServer

JOB = "/apis/batch/v1/namespaces/k8snet/jobs/k8snet-shards"
UID = "8a4f5a3e-0001"
PODS = "/api/v1/namespaces/k8snet/pods"


class Job:
    """A Job of two shards; `results` is the volume that its pods share here."""

    def __init__(self, server: FakeApiServer, results: Path) -> None:
        self.server = server
        self.results = results
        self.pods = [pod(0), pod(1)]
        self.bundle = b"".join(bytes([number % 251]) for number in range(200_000))
        server.routes["GET", JOB] = (200, {"metadata": {"uid": UID}, "spec": {"completions": 2}})
        server.routes["DELETE", JOB] = (200, {})
        server.routes["GET", PODS] = self._list_pods

    def _list_pods(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        key, _, value = query["labelSelector"].partition("=")
        return 200, {"items": [item for item in self.pods if item["metadata"]["labels"].get(key) == value]}

    def finish(self, told: int | None = None) -> None:
        (self.results / "shard.tar.zst").write_bytes(self.bundle)
        size = len(self.bundle) if told is None else told
        (self.results / "done.json").write_text(json.dumps({"exit_status": 1, "bundle_bytes": size}))


def pod(index: int, *, name: str | None = None, failures: int | None = None, job: str = UID, **status: Any) -> dict[str, Any]:
    labels = {
        "batch.kubernetes.io/job-completion-index": str(index),
        "batch.kubernetes.io/job-name": "k8snet-shards",
        "batch.kubernetes.io/controller-uid": job,
    }
    annotations = {} if failures is None else {"batch.kubernetes.io/job-index-failure-count": str(failures)}
    running = {"phase": "Running", "podIP": "10.244.0.9", "containerStatuses": [{"state": {"running": {"startedAt": "x"}}}]}
    return {"metadata": {"name": name or f"shard-{index}", "labels": labels, "annotations": annotations}, "status": status or running}


@pytest.fixture
def job(server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(collect, "_POLL_S", 0.01)
    results = tmp_path / "results"
    results.mkdir()
    for name, file in (("BUNDLE", "shard.tar.zst"), ("DONE", "done.json"), ("COLLECTED", "collected")):
        monkeypatch.setattr(collect, name, str(results / file))
    return Job(server, results)


def fetch(api: Api, folder: Path, seconds: float = 30.0) -> tuple[list[Path], list[str]]:
    told: list[str] = []
    return collect.JobPods(api, "k8snet", "k8snet-shards").fetch(folder, Deadline.after(seconds), told.append), told


def test_every_bundle_is_fetched_and_the_job_removed(job: Job, api: Api, tmp_path: Path) -> None:
    job.finish()
    files, told = fetch(api, tmp_path)
    assert [file.name for file in files] == ["shard-0.tar.zst", "shard-1.tar.zst"]
    assert {file.read_bytes() for file in files} == {job.bundle}
    assert told == ["shard 0 of 2: 200000 bytes, exit status 1", "shard 1 of 2: 200000 bytes, exit status 1"]
    assert not (job.results / "collected").exists()
    collect.JobPods(api, "k8snet", "k8snet-shards").release()
    assert (job.results / "collected").exists()
    assert job.server.asked("DELETE") == [JOB]


def test_no_job(job: Job, api: Api, tmp_path: Path) -> None:
    del job.server.routes["GET", JOB]
    with pytest.raises(ClusterError, match="no Job k8snet/k8snet-shards; `k8snet manifests job` prints one to apply"):
        fetch(api, tmp_path)


def test_pods_of_an_earlier_job_of_that_name_are_left_alone(job: Job, api: Api, tmp_path: Path) -> None:
    job.finish()
    job.pods = [pod(0, job="earlier"), pod(1, job="earlier")]
    with pytest.raises(ClusterError, match="shard 0, 1 not measured"):
        fetch(api, tmp_path, 0.1)


def test_shard_that_takes_too_long(job: Job, api: Api, tmp_path: Path) -> None:
    job.pods = [
        pod(0),
        pod(1, phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}]),
    ]
    with pytest.raises(ClusterError) as caught:
        fetch(api, tmp_path, 0.1)
    assert str(caught.value) == (
        "Job k8snet/k8snet-shards: shard 0, 1 not measured after 0.1 s; shard 0: pod k8snet/shard-0: it is still measuring; "
        "shard 1: pod k8snet/shard-1: Unschedulable: no room"
    )


def test_shard_without_a_pod(job: Job, api: Api, tmp_path: Path) -> None:
    job.finish()
    job.pods = [pod(0), pod(1, phase="Pending")]
    with pytest.raises(ClusterError, match=r"; shard 1: pod k8snet/shard-1: it does not run yet$"):
        fetch(api, tmp_path, 0.1)
    del job.pods[1]
    with pytest.raises(ClusterError, match=r"shard 1: it has no pod; look at: kubectl describe job --namespace k8snet k8snet-shards$"):
        fetch(api, tmp_path, 0.1)


@pytest.mark.parametrize("failures", [0, None])
def test_pod_that_cannot_begin_is_told_at_once(job: Job, api: Api, tmp_path: Path, failures: int | None) -> None:
    waiting = {"state": {"waiting": {"reason": "InvalidImageName", "message": 'no image is called "a b"'}}}
    job.pods = [pod(0, failures=failures, phase="Pending", containerStatuses=[waiting]), pod(1)]
    with pytest.raises(ClusterError) as caught:
        fetch(api, tmp_path)
    assert str(caught.value) == (
        'shard 0: pod k8snet/shard-0: InvalidImageName: no image is called "a b"; look at: kubectl describe pod --namespace k8snet shard-0'
    )


def test_job_that_has_failed(job: Job, api: Api, tmp_path: Path) -> None:
    condition = {
        "type": "Failed",
        "status": "True",
        "reason": "DeadlineExceeded",
        "message": "Job was active longer than specified deadline",
    }
    job.server.routes["GET", JOB] = (
        200,
        {
            "metadata": {"uid": UID},
            "spec": {"completions": 2},
            "status": {"conditions": [{"type": "Suspended", "status": "False"}, condition]},
        },
    )
    job.pods = []
    with pytest.raises(ClusterError) as caught:
        fetch(api, tmp_path)
    assert str(caught.value) == "Job k8snet/k8snet-shards: DeadlineExceeded: Job was active longer than specified deadline"


def test_bundle_that_comes_incomplete(job: Job, api: Api, tmp_path: Path) -> None:
    job.finish(told=300_000)
    with pytest.raises(AccessError, match="shard 0: pod k8snet/shard-0: its bundle came incomplete"):
        fetch(api, tmp_path)


def test_pod_that_failed_is_waited_for_until_it_is_replaced(job: Job, api: Api, tmp_path: Path) -> None:
    job.finish()
    job.pods = [pod(0), pod(1, failures=0, phase="Failed", reason="Evicted", message="memory")]
    with pytest.raises(ClusterError, match="shard 1 not measured"):
        fetch(api, tmp_path, 0.1)
    job.pods.append(pod(1, name="shard-1-again", failures=1))
    files, _ = fetch(api, tmp_path)
    assert len(files) == 2


def test_pod_that_failed_again(job: Job, api: Api, tmp_path: Path) -> None:
    job.finish()
    job.pods = [pod(0), pod(1, failures=1, phase="Failed", reason="Evicted", message="The node was low on memory.")]
    words = "shard 1: pod k8snet/shard-1: Evicted: The node was low on memory.; look at: kubectl logs --namespace k8snet shard-1"
    with pytest.raises(ClusterError, match=words):
        fetch(api, tmp_path)
