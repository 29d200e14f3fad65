"""A run in shards, measured by a Job inside the cluster, says what the run of one process outside says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import site
from tests.lab.rights import least_rights
from tests.lab.suite import Lab, assert_nothing_is_left, k8snet

READ = "--k8snet-level=read"


@pytest.mark.part("shards")
def test_three_shards_say_what_a_single_run_says(lab: Lab, tmp_path: Path) -> None:
    site.install(lab)
    account = least_rights(lab, tmp_path, "--level", "read")
    lab.client.apply(job("--shards", "3", "--", READ))
    bundle = tmp_path / "run.tar.zst"
    collected = k8snet("shards", "collect", "--kubeconfig", lab.kubeconfig, "-o", str(bundle))
    told = [line.partition(":")[0] for line in collected.splitlines()]
    assert (sorted(told[:-1]), told[-1]) == ([f"shard {index} of 3" for index in range(3)], str(bundle)), "each as it is ready"
    assert_nothing_is_left(lab)
    merged = lab.replay("shards", bundle)
    single = lab.run_suite("single", READ, kubeconfig=account)
    # The Job's own pods ask the cluster's DNS; without them nginx alone does, on the third node.
    by_its_pods = {case: "pass" for case in single.verdicts if case[0] == "NET-DNS-003"}
    assert (merged.exit_status, merged.verdicts) == (0, single.verdicts | by_its_pods), merged.output
    assert {node: single.verdicts[check, node] for check, node in by_its_pods} == {"node-1": "skip", "node-2": "skip", "node-3": "pass"}
    assert_nothing_is_left(lab)


@pytest.mark.part("shards")
def test_the_first_shard_sends_requests_through_the_ingress(lab: Lab, tmp_path: Path) -> None:
    options = ("--k8snet-profile=lab", "--k8snet-profile=lab-ingress", "--k8snet-level=probe", "--k8snet-checks=NET-INGRESS-*")
    bundles = [tmp_path / f"{index}.tar.zst" for index in (0, 1)]
    parts = [
        lab.run_suite(f"ingress-shard-{index}", *options, f"--k8snet-shard={index}/2", f"--k8snet-save-bundle={bundle}")
        for index, bundle in enumerate(bundles)
    ]
    of_requests = {(f"NET-INGRESS-00{number}", "cluster") for number in range(4, 10)}
    assert [set(part.verdicts) & of_requests for part in parts] == [of_requests, set()]
    whole = tmp_path / "whole.tar.zst"
    k8snet("shards", "merge", *map(str, bundles), "-o", str(whole))
    merged = lab.replay("ingress-shards", whole)
    single = lab.run_suite("ingress-single", *options)
    assert (merged.exit_status, merged.verdicts) == (0, single.verdicts), merged.output
    assert {merged.verdicts[case] for case in of_requests} == {"pass"}
    assert_nothing_is_left(lab)


def job(*options: str) -> dict[str, Any]:
    """Return the Job that is printed, running the package from the nodes' folder: the probe image has Python, and no package of ours."""
    manifest: dict[str, Any] = yaml.safe_load(k8snet("manifests", "job", "--image", "k8snet.local/probe:1", *options))
    spec = manifest["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    container["env"].append({"name": "PYTHONPATH", "value": "/site"})
    container["volumeMounts"].append({"name": "site", "mountPath": "/site", "readOnly": True})
    spec["volumes"].append({"name": "site", "hostPath": {"path": site.NODE_FOLDER, "type": "Directory"}})
    return manifest
