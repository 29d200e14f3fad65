from __future__ import annotations

import pytest

from pytest_k8snet.cluster.claims.ingress import RESOURCES
from pytest_k8snet.cluster.claims.ranges import SERVICE_CIDR
from pytest_k8snet.cluster.claims.reading import WEBHOOKS, all_resources
from pytest_k8snet.cluster.permissions import Question, Right, by_place, command, in_words, questions, rights
from pytest_k8snet.cluster.policies.reading import RESOURCES as OF_POLICIES

PODS = Right(verbs=("create", "deletecollection", "list"), resource="pods", namespace="x", why="")
SLICES = Right(verbs=("list",), resource="endpointslices", group="discovery.k8s.io", why="")
MAPS = Right(verbs=("get",), resource="configmaps", namespace="kube-system", names=("a", "b"), why="")


def granted(level: str = "load", access: str = "pod", namespace: str | None = None) -> set[tuple[str, str, str | None]]:
    """Return what a role gives: verb, resource, and the namespace of the Role or None."""
    return {(verb, right.full_resource, right.role_namespace) for right in rights(level, access, namespace) for verb in right.verbs}


READING = {
    ("list", "nodes", None),
    ("list", "daemonsets.apps", None),
    ("list", "services", None),
    ("list", "endpointslices.discovery.k8s.io", None),
    ("get", "configmaps", None),
    ("get", "configmaps", "kube-system"),
    ("list", "pods", "kube-system"),
    ("list", "deployments.apps", None),
    *(
        ("list", f"{plural}.{group}", None)
        for resource in (*all_resources(), SERVICE_CIDR, *RESOURCES, *WEBHOOKS)
        for plural, group in ((resource.plural, group) for group, _ in resource.groups)
    ),
}

POLICIES = {("list", f"{resource.plural}.{group}", None) for resource in OF_POLICIES for group, _ in resource.groups}


@pytest.mark.parametrize("level", ["read", "probe", "load"])
def test_ways_without_pods_only_read(level: str) -> None:
    assert granted(level, "ssh") == granted(level, "local") == READING


def test_every_configmap_is_named() -> None:
    assert all(right.names for right in rights("read", "ssh", None) if right.resource == "configmaps")


def test_a_namespace_of_the_runs_own() -> None:
    assert granted("read") - READING == {
        *((verb, "namespaces", None) for verb in ("create", "delete", "list")),
        *((verb, "priorityclasses.scheduling.k8s.io", None) for verb in ("create", "delete", "list")),
        ("get", "serviceaccounts", None),
        *((verb, "pods", None) for verb in ("create", "list")),
        *((verb, "pods/exec", None) for verb in ("create", "get")),
        ("list", "events", None),
        ("list", "limitranges", None),
    }
    assert granted("probe") - granted("read") == {
        ("create", "services", None),
        ("patch", "pods", None),
        *(("get", resource, None) for resource in ("pods/log", "pods/proxy")),
        *((verb, "networkpolicies.networking.k8s.io", None) for verb in ("create", "delete", "list")),
        ("get", "namespaces", None),
        *POLICIES,
    }


def test_a_namespace_that_is_there() -> None:
    assert granted("read", namespace="net") - READING == {
        ("get", "namespaces", "net"),
        *((verb, "pods", "net") for verb in ("create", "deletecollection", "list")),
        *((verb, "pods/exec", "net") for verb in ("create", "get")),
        ("list", "events", "net"),
        ("list", "limitranges", "net"),
    }
    assert granted("probe", namespace="net") - granted("read", namespace="net") == {
        *((verb, "services", "net") for verb in ("create", "delete")),
        ("patch", "pods", "net"),
        *(("get", resource, "net") for resource in ("pods/log", "pods/proxy")),
        *((verb, "networkpolicies.networking.k8s.io", "net") for verb in ("create", "delete", "list")),
        *POLICIES,
    }


def test_the_lease_of_level_load() -> None:
    lease = {(verb, "leases.coordination.k8s.io", "default") for verb in ("create", "get", "update", "delete")}
    assert granted("load") - granted("probe") == granted("load", namespace="net") - granted("probe", namespace="net") == lease
    assert rights("load", "pod", None, lock=False) == rights("probe", "pod", None)
    asked = questions(rights("load", "pod", None))[-4:]
    assert [(item.verb, item.name) for item in asked] == [
        ("create", None),
        ("get", "k8snet-load"),
        ("update", "k8snet-load"),
        ("delete", "k8snet-load"),
    ]


def test_what_is_asked_for_at_the_start() -> None:
    asked = questions(rights("read", "pod", None, run_namespace="k8snet-r1"))
    assert Question("create", asked[-1].right) in asked
    assert [item.attributes() for item in asked if item.right.resource.startswith("pods")] == [
        {"verb": "list", "resource": "pods", "namespace": "kube-system"},
        {"verb": "create", "resource": "pods", "namespace": "k8snet-r1"},
        {"verb": "list", "resource": "pods", "namespace": "k8snet-r1"},
        {"verb": "create", "resource": "pods", "subresource": "exec", "namespace": "k8snet-r1"},
        {"verb": "get", "resource": "pods", "subresource": "exec", "namespace": "k8snet-r1"},
    ]
    assert [item.attributes() for item in questions([SLICES, MAPS])] == [
        {"verb": "list", "group": "discovery.k8s.io", "resource": "endpointslices"},
        {"verb": "get", "resource": "configmaps", "namespace": "kube-system", "name": "a"},
        {"verb": "get", "resource": "configmaps", "namespace": "kube-system", "name": "b"},
    ]


def test_what_a_run_can_do_without_is_not_asked_for() -> None:
    resources = {item.right.resource for item in questions(rights("load", "pod", None))}
    assert not resources & {
        "pods/log",
        "pods/proxy",
        "events",
        "priorityclasses",
        "serviceaccounts",
        *(resource.plural for resource in all_resources()),
    }


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ([], []),
        (questions([SLICES]), ["list endpointslices.discovery.k8s.io"]),
        (questions([PODS]), ["create, deletecollection and list pods in x"]),
        ([Question("list", PODS), Question("create", PODS)], ["list and create pods in x"]),
        (questions([MAPS]), ["get configmaps a, b in kube-system"]),
        ([Question("get", MAPS, "b"), *questions([SLICES])], ["get configmaps b in kube-system", "list endpointslices.discovery.k8s.io"]),
    ],
    ids=["nothing", "group", "verbs", "two-verbs", "names", "two"],
)
def test_words(lacking: list[Question], words: list[str]) -> None:
    assert in_words(lacking) == words


def test_words_by_place() -> None:
    assert by_place(questions([SLICES, PODS, MAPS])) == {
        None: ["list endpointslices.discovery.k8s.io"],
        "x": ["create, deletecollection and list pods"],
        "kube-system": ["get configmaps a, b"],
    }


def test_command() -> None:
    assert command("load", "pod", None) == "k8snet manifests rbac --level load"
    assert command("read", "ssh", "net") == "k8snet manifests rbac --level read --access ssh --namespace net"
