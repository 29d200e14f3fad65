"""How an object of ours is known: by labels that name the run, and by an annotation with the time at which nobody needs it any more."""

from __future__ import annotations

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "pytest-k8snet"
RUN_ID = "k8snet/run-id"
EXPIRES = "k8snet/expires"
