"""Fetches the bundles of a Job's pods, as they become ready."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.pod import ExecStream
from pytest_k8snet.access.probes import pod_state
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.errors import AccessError, ClusterError
from pytest_k8snet.shards.layout import BUNDLE, COLLECTED, CONTAINER, DONE, FAILURES, INDEX_LABEL, OWNER_LABEL

_POLL_S = 1.0
_EXEC_S = 30.0
_FETCH_S = 600.0


class JobPods:
    """The pods of one Job, by their index."""

    def __init__(self, api: Api, namespace: str, job: str) -> None:
        self._api = api
        self._namespace = namespace
        self._job = job
        self._path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{job}"

    def count(self) -> int:
        """Return how many shards there are."""
        return int(self._read()["spec"]["completions"])

    def _read(self) -> Mapping[str, Any]:
        try:
            job: Mapping[str, Any] = self._api.get(self._path)
            return job
        except ApiError as error:
            if error.status == 404:
                raise ClusterError(f"no Job {self._namespace}/{self._job}; `k8snet manifests job` prints one to apply") from error
            raise

    def fetch(self, folder: Path, deadline: Deadline, tell: Callable[[str], None]) -> list[Path]:
        """Fetch every bundle into `folder` and return their files in the order of the shards.

        Raises a `K8sNetError` that names the shard and its pod when one cannot be had.
        """
        job = self._read()
        count, uid = int(job["spec"]["completions"]), str(job["metadata"]["uid"])
        files: dict[int, Path] = {}
        while len(files) < count:
            pods = self._pods(uid)
            for index, pod in pods.items():
                if index in files:
                    continue
                done = self._done(index, pod)
                if done is None:
                    continue
                files[index] = folder / f"shard-{index}.tar.zst"
                files[index].write_bytes(self._exec(pod, ["cat", BUNDLE], Deadline.after(_FETCH_S)))
                if files[index].stat().st_size != done["bundle_bytes"]:
                    raise AccessError(f"shard {index}: pod {self._namespace}/{pod['metadata']['name']}: its bundle came incomplete")
                tell(f"shard {index} of {count}: {done['bundle_bytes']} bytes, exit status {done['exit_status']}")
            if len(files) < count:
                self._see_that_it_goes_on()
                if deadline.expired:
                    missing = [index for index in range(count) if index not in files]
                    told = "".join(f"; shard {index}: {self._waiting(pods.get(index))}" for index in missing)
                    numbers = ", ".join(map(str, missing))
                    raise ClusterError(
                        f"Job {self._namespace}/{self._job}: shard {numbers} not measured after {deadline.seconds:g} s{told}"
                    )
                time.sleep(_POLL_S)
        return [files[index] for index in range(count)]

    def release(self) -> None:
        """Let the pods end, and remove the Job."""
        for pod in self._pods(str(self._read()["metadata"]["uid"])).values():
            if pod.get("status", {}).get("phase") == "Running":
                self._exec(pod, ["touch", COLLECTED], Deadline.after(_EXEC_S))
        self._api.delete(self._path, propagationPolicy="Background")

    def _see_that_it_goes_on(self) -> None:
        """Raise `ClusterError` when the Job has failed: nothing more comes of it."""
        for condition in self._read().get("status", {}).get("conditions") or ():
            if condition.get("type") == "Failed" and condition.get("status") == "True":
                raise ClusterError(f"Job {self._namespace}/{self._job}: {condition.get('reason')}: {condition.get('message')}")

    def _waiting(self, pod: Mapping[str, Any] | None) -> str:
        """Return what a shard that is not there yet is waiting for."""
        if pod is None:
            return f"it has no pod; look at: kubectl describe job --namespace {self._namespace} {self._job}"
        state = pod_state(pod)
        doing = "it is still measuring" if state.running else state.error or state.passing or "it does not run yet"
        return f"pod {self._namespace}/{pod['metadata']['name']}: {doing}"

    def _pods(self, uid: str) -> dict[int, Mapping[str, Any]]:
        """Return the newest pod of each index: one that failed is replaced once. An earlier Job's of the same name may be there as well."""
        found = [*self._api.list(f"/api/v1/namespaces/{self._namespace}/pods", labelSelector=f"{OWNER_LABEL}={uid}")]
        found.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
        return {int(pod["metadata"]["labels"][INDEX_LABEL]): pod for pod in found}

    def _done(self, index: int, pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what a pod says of its bundle, None when there is none yet."""
        state, name = pod_state(pod), pod["metadata"]["name"]
        # The first pod of an index that fails is replaced; one that cannot begin has not failed, and waits for ever.
        again = int((pod["metadata"].get("annotations") or {}).get(FAILURES, 1)) > 0
        stuck = pod.get("status", {}).get("phase") == "Pending" and not pod["metadata"].get("deletionTimestamp")
        if state.error is not None and (again or stuck):
            look = f"kubectl {'describe pod' if stuck else 'logs'} --namespace {self._namespace} {name}"
            raise ClusterError(f"shard {index}: pod {self._namespace}/{name}: {state.error}; look at: {look}")
        if not state.running:
            return None
        text = self._exec(pod, ["sh", "-c", f"cat {DONE} 2>/dev/null || true"], Deadline.after(_EXEC_S))
        answer: Mapping[str, Any] | None = json.loads(text) if text.strip() else None
        return answer

    def _exec(self, pod: Mapping[str, Any], argv: list[str], deadline: Deadline) -> bytes:
        stream = ExecStream(self._api, self._namespace, pod["metadata"]["name"], argv, deadline, container=CONTAINER)
        try:
            return stream.read_to_end(deadline)
        finally:
            stream.close()
