"""The Indexed Job that measures a cluster from inside, in shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from pytest_k8snet.shards.layout import CONTAINER, JOB, RESULTS

_NOBODY = 65532
_DEADLINE_S = 2 * 3600
_KEPT_S = 3600  # after its end, Kubernetes removes the Job itself


def job(*, shards: int, image: str, namespace: str, service_account: str, arguments: Sequence[str]) -> str:
    """Return the Job as YAML; `arguments` are those of pytest."""
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": JOB, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "pytest-k8snet"}},
        "spec": {
            "completionMode": "Indexed",
            "completions": shards,
            "parallelism": shards,
            "backoffLimitPerIndex": 1,
            "maxFailedIndexes": 0,
            "activeDeadlineSeconds": _DEADLINE_S,
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": {
                "metadata": {
                    "labels": {"app.kubernetes.io/managed-by": "pytest-k8snet", "sidecar.istio.io/inject": "false"},
                    "annotations": {"linkerd.io/inject": "disabled", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
                },
                "spec": _pod(shards, image, service_account, arguments),
            },
        },
    }
    return _HEAD.format(shards=shards) + yaml.safe_dump(manifest, sort_keys=False)


_HEAD = """# A run in {shards} shards, measured from inside the cluster. Its account: k8snet manifests rbac --level ...
# Fetch what it measured, and judge it:
#   k8snet shards collect --kubeconfig FILE -o run.tar.zst
#   pytest --k8snet-replay=run.tar.zst --junitxml=k8snet.xml
"""


def _pod(shards: int, image: str, service_account: str, arguments: Sequence[str]) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "serviceAccountName": service_account,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "runAsGroup": _NOBODY,
            "fsGroup": _NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": ["python3", "-m", "pytest_k8snet", "shards", "run", "--shards", str(shards), "--", *arguments],
                "workingDir": RESULTS,
                "env": [{"name": "HOME", "value": RESULTS}],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True},
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
                "volumeMounts": [{"name": "results", "mountPath": RESULTS}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
            }
        ],
        "volumes": [{"name": "results", "emptyDir": {"sizeLimit": "4Gi"}}, {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
