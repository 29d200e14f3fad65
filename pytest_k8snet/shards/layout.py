"""What the pods of the Job and those who collect from them agree on."""

from __future__ import annotations

JOB = "k8snet-shards"
CONTAINER = "k8snet"
RESULTS = "/results"  # a writable volume of each pod
BUNDLE = f"{RESULTS}/shard.tar.zst"
DONE = f"{RESULTS}/done.json"  # {"exit_status": of pytest, "bundle_bytes": size or null}; written when the bundle is whole
COLLECTED = f"{RESULTS}/collected"  # made by who has fetched the bundle
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"  # Kubernetes 1.28 and later
OWNER_LABEL = "batch.kubernetes.io/controller-uid"  # Kubernetes 1.27 and later; pods of an earlier Job of that name may still be there
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
FAILURES = "batch.kubernetes.io/job-index-failure-count"  # annotation of a pod: how many of its index have failed before
