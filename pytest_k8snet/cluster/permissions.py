"""The rights a run needs in the cluster: one table, from which the manifests and the questions at its start are made. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.cluster import dns, lease
from pytest_k8snet.cluster.claims import ingress, reading
from pytest_k8snet.cluster.claims.objects import Resource
from pytest_k8snet.cluster.claims.ranges import SERVICE_CIDR
from pytest_k8snet.cluster.policies import reading as policies

SYSTEM = "kube-system"
SOME_NAMESPACE = "k8snet-<run id>"  # the probe pods' when the settings name none


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """Verbs on one kind of resource, and what they are for."""

    verbs: tuple[str, ...]
    resource: str  # "pods", "pods/exec"
    why: str
    group: str = ""
    namespace: str | None = None  # where it is used; None is the whole cluster
    everywhere: bool = False  # given by a ClusterRole though it is used in one namespace, whose name nobody knows before the run
    names: tuple[str, ...] = ()  # the only objects it is for
    optional: bool = False  # not asked for at the start: a run without it goes on

    @property
    def role_namespace(self) -> str | None:
        """The namespace whose Role can give it; None takes a ClusterRole."""
        return None if self.everywhere else self.namespace

    @property
    def full_resource(self) -> str:
        """The resource with its group, as RBAC's own messages have it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that an identity may do or not: what a SelfSubjectAccessReview asks for."""

    verb: str
    right: Right
    name: str | None = None

    def attributes(self) -> dict[str, str]:
        """Return the ``resourceAttributes`` of the review."""
        resource, _, subresource = self.right.resource.partition("/")
        asked = {
            "verb": self.verb,
            "group": self.right.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": self.right.namespace or "",
            "name": self.name or "",
        }
        return {key: value for key, value in asked.items() if value}


def rights(
    level: str, access: str, namespace: str | None, *, run_namespace: str = SOME_NAMESPACE, lock: bool = True, ingresses: bool = False
) -> list[Right]:
    """Return what a run needs.

    `access` is the way to the nodes: ``pod`` goes through the API server, every other one only reads from it. `namespace` is the one that
    the settings name for the probe pods; None lets the run make `run_namespace`. Without `lock` load is measured beside other runs.
    With `ingresses` a profile names ways into the cluster that requests are sent through.
    """
    if access != "pod":
        return _reading()
    pods = _pods_in_own_namespace(run_namespace) if namespace is None else _pods_in(namespace)
    services = _probe_services(namespace, run_namespace) if level != "read" else []
    if level != "read":
        services += _probe_policies(namespace, run_namespace)
    if ingresses and level != "read":
        services += _probe_ingresses(namespace, run_namespace)
    return [*_reading(), *pods, *services, *(_lease() if level == "load" and lock else ())]


def questions(needed: Iterable[Right]) -> list[Question]:
    """Return what has to be allowed for a run to be possible."""
    return [
        Question(verb, right, name) for right in needed if not right.optional for verb in right.verbs for name in (right.names or (None,))
    ]


def in_words(asked: Iterable[Question]) -> list[str]:
    """Return rights as a reader would say them: ``create and list pods in x``; verbs and names of one resource together."""
    return [f"{words} in {place}" if place is not None else words for place, words in _in_words(asked)]


def by_place(asked: Iterable[Question]) -> dict[str | None, list[str]]:
    """Return the same by namespace; None is the whole cluster."""
    found: dict[str | None, list[str]] = {}
    for place, words in _in_words(asked):
        found.setdefault(place, []).append(words)
    return found


def command(level: str, access: str, namespace: str | None, *, ingresses: bool = False) -> str:
    """Return the command that prints a role for such a run."""
    options = {"--level": level, "--access": None if access == "pod" else access, "--namespace": namespace}
    given = [f"{option} {value}" for option, value in options.items() if value is not None]
    return " ".join(["k8snet manifests rbac", *given, *(["--ingress"] if ingresses else [])])


def _in_words(asked: Iterable[Question]) -> Iterator[tuple[str | None, str]]:
    names: dict[tuple[Right, str], list[str]] = {}
    for item in asked:
        names.setdefault((item.right, item.verb), []).extend([item.name] if item.name else [])
    verbs: dict[tuple[Right, tuple[str, ...]], list[str]] = {}
    for (right, verb), objects in names.items():
        verbs.setdefault((right, tuple(objects)), []).append(verb)
    for (right, only), of_both in verbs.items():
        listed = " and ".join(filter(None, (", ".join(of_both[:-1]), of_both[-1])))
        yield right.namespace, " ".join(filter(None, (listed, right.full_resource, ", ".join(only))))


def _reading() -> list[Right]:
    maps = tuple(sorted(name for _, name in reading.ALWAYS))
    return [
        Right(verbs=("list",), resource="nodes", why="Nodes: their addresses, and whether they are Ready."),
        Right(verbs=("list",), resource="daemonsets", group="apps", why="Which kube-proxy and which CNI there are."),
        Right(verbs=("list",), resource="services", why="Services and their endpoints: what the tables of IPVS are judged against."),
        Right(verbs=("list",), resource="endpointslices", group="discovery.k8s.io", why=""),
        Right(
            verbs=("get",),
            resource="configmaps",
            everywhere=True,
            names=(*reading.all_config_maps(), *ingress.CONFIG_MAPS),
            optional=True,
            why="What CNIs and ingress-nginx claim; needed only where they run, in whichever namespace that is.",
        ),
        Right(verbs=("list",), resource="deployments", group="apps", optional=True, why="Whether there is an ingress-nginx."),
        *_custom_objects(),
        Right(verbs=("list",), resource="pods", namespace=SYSTEM, why="Pods of kube-proxy, static ones too, and of CoreDNS."),
        Right(verbs=("get",), resource="configmaps", namespace=SYSTEM, names=maps, why="What kube-proxy and the CNI claim."),
        Right(verbs=("get",), resource="configmaps", namespace=SYSTEM, names=dns.COREFILES, optional=True, why="The Corefile."),
    ]


def _custom_objects() -> Iterator[Right]:
    why = "Objects of CNIs, the Services' ranges, kinds of ingress, admission webhooks; without these rights they stay unknown."
    return _listed((*reading.all_resources(), SERVICE_CIDR, *ingress.RESOURCES, *reading.WEBHOOKS), why)


def _listed(resources: Iterable[Resource], why: str) -> Iterator[Right]:
    """Give the rights to list objects of these kinds in each of their groups; only the first says why."""
    for resource in resources:
        for group in dict.fromkeys(group for group, _ in resource.groups):
            yield Right(verbs=("list",), resource=resource.plural, group=group, optional=True, why=why)
            why = ""


def _pods_in_own_namespace(name: str) -> list[Right]:
    return [
        Right(verbs=("create", "delete"), resource="namespaces", why="A namespace of the run's own, which goes with all that is in it."),
        Right(
            verbs=("get",),
            resource="serviceaccounts",
            namespace=name,
            everywhere=True,
            optional=True,
            why="When the new namespace is ready for pods; without it they are tried until they are taken.",
        ),
        *_probe_pods(("create", "list"), name, everywhere=True),
        Right(
            verbs=("create", "delete"),
            resource="priorityclasses",
            group="scheduling.k8s.io",
            optional=True,
            why="A class of the lowest priority for the probe pods; without it they have the default one.",
        ),
        Right(verbs=("list",), resource="namespaces", optional=True, why="What killed runs have left, to remove it."),
        Right(verbs=("list",), resource="priorityclasses", group="scheduling.k8s.io", optional=True, why=""),
    ]


def _pods_in(namespace: str) -> list[Right]:
    return [
        Right(
            verbs=("get",),
            resource="namespaces",
            namespace=namespace,
            names=(namespace,),
            optional=True,
            why="Tells a namespace that is not there from one that takes no pods.",
        ),
        *_probe_pods(("create", "deletecollection", "list"), namespace, everywhere=False),
    ]


def _probe_pods(verbs: tuple[str, ...], namespace: str, *, everywhere: bool) -> list[Right]:
    return [
        Right(
            verbs=verbs,
            resource="pods",
            namespace=namespace,
            everywhere=everywhere,
            why="Probe pods, two a node: they are the way to the nodes, for level read as well.",
        ),
        Right(
            verbs=("create", "get"),
            resource="pods/exec",
            namespace=namespace,
            everywhere=everywhere,
            why="The agents in them. An exec over a WebSocket takes get, and since Kubernetes 1.35 create as well.",
        ),
        Right(
            verbs=("list",),
            resource="events",
            namespace=namespace,
            everywhere=everywhere,
            optional=True,
            why="Why a pod does not start; without it the pod's status has to tell.",
        ),
        Right(
            verbs=("list",),
            resource="limitranges",
            namespace=namespace,
            everywhere=everywhere,
            optional=True,
            why="Which LimitRange refuses a pod; without it the message names none.",
        ),
    ]


def _probe_services(namespace: str | None, run_namespace: str) -> list[Right]:
    """Those in a namespace of the run's own go with it."""
    return [
        Right(
            verbs=("create",) if namespace is None else ("create", "delete"),
            resource="services",
            namespace=namespace or run_namespace,
            everywhere=namespace is None,
            why="Services that lead to probe pods, at most 18: what ClusterIPs and NodePorts are tested with.",
        ),
        Right(
            verbs=("patch",),
            resource="pods",
            namespace=namespace or run_namespace,
            everywhere=namespace is None,
            optional=True,
            why="A label of one probe pod, so that it leaves a Service and comes back; without it NET-SERVICE-006 is skipped.",
        ),
        *_relayed(namespace, run_namespace),
    ]


def _relayed(namespace: str | None, run_namespace: str) -> Iterator[Right]:
    """Of probe pods alone: ``nodes/proxy``, which would do for the kubelet, is all that a kubelet can do."""
    why = "What the API server itself reaches, the kubelet and the pod network, through probe pods; without it NET-CONTROL-009 is skipped."
    for resource in ("pods/log", "pods/proxy"):
        yield Right(
            verbs=("get",),
            resource=resource,
            namespace=namespace or run_namespace,
            everywhere=namespace is None,
            optional=True,
            why=why,
        )
        why = ""


def _probe_ingresses(namespace: str | None, run_namespace: str) -> list[Right]:
    """Those in a namespace of the run's own go with it. Whether a profile asks for them is not known before the run: not asked for."""
    kinds = {"ingresses": "networking.k8s.io", "httproutes": "gateway.networking.k8s.io"}
    made = [
        Right(
            verbs=("create",) if namespace is None else ("create", "delete"),
            resource=resource,
            group=group,
            namespace=namespace or run_namespace,
            everywhere=namespace is None,
            optional=True,
            why="What leads to a probe pod, an Ingress or an HTTPRoute for each of ingress.routes of the profile.",
        )
        for resource, group in kinds.items()
    ]
    replaced = Right(
        verbs=("patch",),
        resource="services",
        namespace=namespace or run_namespace,
        everywhere=namespace is None,
        optional=True,
        why="Which pod the run's own Service behind them leads to; without it NET-INGRESS-009 is skipped.",
    )
    why = "Only for k8snet cleanup."
    listed = [
        Right(verbs=("list",), resource=resource, group=group, namespace=namespace, optional=True, why=why)
        for resource, group in kinds.items()
    ]
    return [*made, replaced, *listed]


def _probe_policies(namespace: str | None, run_namespace: str) -> list[Right]:
    """Of the kind that policies are made of, one for pods of the run. Whether anything enforces it is not known before: not asked for."""
    where: dict[str, Any] = {"resource": "networkpolicies", "group": "networking.k8s.io", "optional": True}
    made = Right(
        verbs=("create", "delete"),
        namespace=namespace or run_namespace,
        everywhere=namespace is None,
        why="A NetworkPolicy for pods of the run alone, where something enforces them; without it NET-POLICY-001 is skipped.",
        **where,
    )
    why = "Which policies block what the run sends; without it none is named where nothing answers."
    if namespace is None:
        listed = Right(verbs=("list",), why=f"{why} For k8snet cleanup, too.", **where)
        labels = Right(
            verbs=("get",), resource="namespaces", namespace=run_namespace, everywhere=True, optional=True, why="Its labels, likewise."
        )
        return [made, listed, labels, *_other_policies()]
    return [made, Right(verbs=("list",), namespace=namespace, why=why, **where), *_other_policies()]


def _other_policies() -> Iterator[Right]:
    """Kinds of the whole cluster and of CNIs."""
    return _listed(policies.RESOURCES, "Those of the whole cluster and of CNIs, likewise.")


def _lease() -> list[Right]:
    where: dict[str, Any] = {"resource": "leases", "group": "coordination.k8s.io", "namespace": lease.NAMESPACE}
    return [
        Right(verbs=("create",), why="The Lease that keeps two runs from measuring load at the same time.", **where),
        Right(verbs=("get", "update", "delete"), names=(lease.NAME,), why="", **where),
    ]
