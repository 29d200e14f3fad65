from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pytest_k8snet.cluster.claims import policy
from pytest_k8snet.cluster.claims.objects import Objects
from pytest_k8snet.cluster.claims.reading import read_claims
from tests.unit.cluster.samples import daemonset

CONFIG = ("kube-system", "cilium-config")


def claimed(*daemonsets: dict[str, Any], config: dict[str, str] | None = None) -> tuple[bool | None, str] | None:
    maps = {} if config is None else {CONFIG: config}
    claim = read_claims(Objects(daemonsets=daemonsets, config_maps=maps), None).claims.get(policy.KEY)
    return None if claim is None else (claim.value, claim.source)


def with_containers(item: dict[str, Any], *names: str) -> dict[str, Any]:
    item["spec"]["template"]["spec"]["containers"] = [{"name": name} for name in names]
    return item


@pytest.mark.parametrize("name", sorted(policy.ALWAYS))
def test_who_cannot_be_told_not_to(name: str) -> None:
    said = f"DaemonSet kube-system/{name} ({policy.ALWAYS[name]} enforces them)"
    assert claimed(daemonset(name)) == (True, said)


def test_flannel_with_somebody_who_enforces_them() -> None:
    item = with_containers(daemonset("kube-flannel"), "kube-flannel", "kube-network-policies")
    assert claimed(item) == (True, "DaemonSet kube-system/kube-flannel container kube-network-policies")
    item["status"]["desiredNumberScheduled"] = 0
    assert claimed(item) is None


def test_nobody_says_anything() -> None:
    assert claimed() is None
    assert claimed(daemonset("kube-flannel-ds"), daemonset("kube-proxy")) is None
    unscheduled = daemonset("calico-node")
    unscheduled["status"]["desiredNumberScheduled"] = 0
    assert claimed(unscheduled) is None


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (None, (True, "DaemonSet kube-system/cilium (Cilium enforces them unless it is told not to)")),
        ({}, (True, "DaemonSet kube-system/cilium (Cilium enforces them unless it is told not to)")),
        ({"enable-policy": "default"}, (True, "ConfigMap kube-system/cilium-config enable-policy")),
        ({"enable-policy": "always"}, (True, "ConfigMap kube-system/cilium-config enable-policy")),
        ({"enable-policy": "default", "policy-audit-mode": "true"}, (False, "ConfigMap kube-system/cilium-config policy-audit-mode")),
        ({"enable-policy": "never"}, (False, "ConfigMap kube-system/cilium-config enable-policy")),
        (
            {"enable-policy": "default", "enable-k8s-networkpolicy": "false"},
            (False, "ConfigMap kube-system/cilium-config enable-k8s-networkpolicy"),
        ),
    ],
)
def test_cilium(config: dict[str, str] | None, wanted: tuple[bool | None, str]) -> None:
    assert claimed(daemonset("cilium"), config=config) == wanted


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("kube-router", [], (True, "DaemonSet kube-system/kube-router --run-firewall (true is the default)")),
        ("kube-router", ["--run-firewall=true"], (True, "DaemonSet kube-system/kube-router --run-firewall")),
        ("kube-router", ["--run-firewall=false"], (False, "DaemonSet kube-system/kube-router --run-firewall")),
        ("aws-node", [], (False, "DaemonSet kube-system/aws-node --enable-network-policy (false is the default)")),
        (
            "aws-node",
            ["--enable-network-policy=true"],
            (
                None,
                "DaemonSet kube-system/aws-node --enable-network-policy: for pods that have an owner, and those of a run have none",
            ),
        ),
    ],
)
def test_those_that_have_a_flag(name: str, arguments: Sequence[str], wanted: tuple[bool | None, str]) -> None:
    assert claimed(daemonset(name, args=[*arguments])) == wanted


def test_weave() -> None:
    assert claimed(with_containers(daemonset("weave-net"), "weave", "weave-npc")) == (
        True,
        "DaemonSet kube-system/weave-net container weave-npc",
    )
    assert claimed(with_containers(daemonset("weave-net"), "weave")) == (False, "DaemonSet kube-system/weave-net without weave-npc")


def test_one_that_enforces_is_enough() -> None:
    both = (daemonset("aws-node"), daemonset("calico-node"))
    assert claimed(*both) == (True, "DaemonSet kube-system/calico-node (Calico enforces them)")
