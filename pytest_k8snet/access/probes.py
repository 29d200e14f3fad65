"""The probe pods: two a node, made in parallel, named when they do not start and why, and removed again."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access import probe_ingresses, probe_policies
from pytest_k8snet.access.base import Deadline
from pytest_k8snet.access.hindrance import MESH_ANNOTATIONS, MESH_LABELS, explained, in_a_mesh, is_limit_range
from pytest_k8snet.access.image import DEFAULT_IMAGE
from pytest_k8snet.access.probe_ingresses import ProbeIngress, ingress_host, ingress_name, ingress_path
from pytest_k8snet.access.probe_policies import CHOSEN, SELECTED, PolicyPod, policy_path
from pytest_k8snet.access.probe_services import (
    GROUP,
    GROUP_TARGET_PORTS,
    MOST,
    PER_SERVICE,
    SERVED,
    GroupService,
    ProbeService,
    group_body,
    grouped,
    scale_body,
    scale_name,
    served,
    service_body,
    service_name,
)
from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.cluster.inventory import read_node
from pytest_k8snet.cluster.ownership import EXPIRES, MANAGED_BY, MANAGER, RUN_ID
from pytest_k8snet.errors import ClusterError, ConfigurationError, K8sNetError, ProbeError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.ingress import Route
    from pytest_k8snet.cluster.model import Cluster, Node

NODE = "k8snet/node"
ENFORCE = "pod-security.kubernetes.io/enforce"
PRIORITY_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"

DEADLINE_S = 3600
SERVICE_IS = "of type NodePort for one of those pods, TCP; only where checks of the area service are to run"
SCALE_IS = f"of a ClusterIP and up to {PER_SERVICE} ports, as --k8snet-service-scale asks for; likewise"
GROUP_IS = "of a ClusterIP for some of those pods together, likewise"
BACKEND_IS = "for one of those pods: what Ingresses and HTTPRoutes lead to"
POLICY_POD_IS = "unprivileged, in the pod network: what a NetworkPolicy selects; only where one is known to be enforced"
POLICY_IS = "for those pods alone, while it is looked at what it shuts; likewise"
INGRESS_IS = "for ingress.routes of the profile; only where checks that send requests through it are to run"

_THREADS = 16
_POLL_S = 0.5
_NODES_S = 5.0
_GRACE_S = 15.0  # how long a reason that may pass is given to pass
_NOBODY = 65532
_POD_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

# Reasons of a waiting container that no patience changes.
_HOPELESS = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "RunContainerError"})
_PASSING = frozenset({"CreateContainerError", "CrashLoopBackOff", "ErrImagePull"})


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What the probe pods are made of."""

    run_id: str  # a DNS label
    image: str = DEFAULT_IMAGE
    image_pull_secret: str | None = None
    namespace: str | None = None  # one that exists is used and never deleted; None makes k8snet-<run id>
    deadline_s: int = DEADLINE_S  # activeDeadlineSeconds of the pods; cleanup counts from it
    frontends: int = 0  # that are made for checks of scale
    idle: bool = False  # whether connections are to be left idle
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """The two probe pods of a node; with `error` they cannot be used, and it says why. Without names there are none."""

    node: str
    namespace: str
    host_pod: str
    pod: str
    pod_ip: str | None
    error: str | None = None
    pod_ips: tuple[str, ...] = ()  # the same and that of the other family, where it has both

    @property
    def addresses(self) -> tuple[str, ...]:
        """The pod's addresses, the first of them `pod_ip`."""
        return self.pod_ips or ((self.pod_ip,) if self.pod_ip else ())

    @classmethod
    def none(cls, node: str, error: str | None = None) -> Probe:
        """Return what stands for the probe pods where there are none: `error` is why nothing can be measured there."""
        return cls(node, "", "", "", None, error)

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Probe:
        """Read what `to_json` gave."""
        return cls(**{**data, "pod_ips": tuple(data.get("pod_ips") or ())})


@dataclass(frozen=True, slots=True)
class PlannedObject:
    """An object that a run creates, or several of one kind."""

    kind: str
    name: str  # <node> stands for the name of each node
    namespace: str | None
    number: int
    what: str


def planned_objects(
    settings: ProbeSettings, nodes: int, *, services: bool = False, routes: Sequence[Route] = (), policies: bool = False
) -> list[PlannedObject]:
    """Return what `start_probes` creates for so many nodes, with `services` what their Services are, and what is made for `routes`.

    With `policies` also what a NetworkPolicy is looked at with.
    """
    kinds = Counter("Ingress" if route.gateway is None else "HTTPRoute" for route in routes)
    own = f"k8snet-{settings.run_id}"
    namespace = settings.namespace or own
    made = [PlannedObject("Namespace", own, None, 1, "for the pods, with the Pod Security level privileged")]
    many = -(-settings.frontends // PER_SERVICE)
    host = "privileged, hostNetwork and hostPID: only so the node's kernel and the networks of other pods can be read"
    return [
        *(made if settings.namespace is None else ()),
        PlannedObject("PriorityClass", own, None, 1, "the lowest, never preempting; a run that may not make it goes without"),
        PlannedObject("Pod", "host-<node>", namespace, nodes, host),
        PlannedObject("Pod", "probe-<node>", namespace, nodes, "unprivileged, in the pod network"),
        *([PlannedObject("Service", "probe-<number>", namespace, min(nodes, MOST), SERVICE_IS)] if services else ()),
        *([PlannedObject("Service", name, namespace, 1, GROUP_IS) for name in GROUP_TARGET_PORTS] if services else ()),
        *([PlannedObject("Service", "scale-<number>", namespace, many, SCALE_IS)] if services and many else ()),
        *([PlannedObject("Service", probe_ingresses.SERVICE, namespace, 1, BACKEND_IS)] if routes else ()),
        *(PlannedObject(kind, "ingress-<number>", namespace, number, INGRESS_IS) for kind, number in kinds.items()),
        *([PlannedObject("Pod", "policy-<node>", namespace, nodes, POLICY_POD_IS)] if policies else ()),
        *([PlannedObject("NetworkPolicy", probe_policies.NAME, namespace, 1, POLICY_IS)] if policies else ()),
    ]


class RunningProbes:
    """The probe pods of a run from their creation to their removal."""

    def __init__(self, api: Api, settings: ProbeSettings, nodes: Sequence[Node]) -> None:
        self._api = api
        self._settings = settings
        self._nodes = nodes
        self.namespace = settings.namespace or f"k8snet-{settings.run_id}"
        self._priority_class: str | None = None
        self._made_namespace = False
        self._grouped = grouped([node.name for node in nodes if unusable(node) is None])
        self._chosen = {node.name for node in nodes[::2]}
        self._made: list[str] = []  # paths of what a namespace that exists has beside the pods
        self._made_policy_pods = False
        self._deleted = False
        self._lock = threading.Lock()
        self._probes = {
            node.name: Probe(node.name, self.namespace, pod_name("host", node.name), pod_name("probe", node.name), None) for node in nodes
        }

    def create(self) -> None:
        """Create namespace and pods; what is refused for one node is kept as that node's error."""
        if self._settings.namespace is not None:
            self._look_at_namespace()
        self._create_priority_class()
        if self._settings.namespace is None:
            self._create_namespace()
        usable = []
        for node in self._nodes:
            reason = unusable(node)
            if reason is None:
                usable.append(node)
            else:
                self._fail(node.name, f"{node.name}: {reason}")
        with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="k8snet-probes") as pool:
            for _ in pool.map(self._create_pods, usable):
                pass

    def wait(self, deadline: Deadline) -> Mapping[str, Probe]:
        """Wait until every pod runs or is known not to; return one probe per node asked for."""
        started = looked = time.monotonic()
        while True:
            pending = {name: probe for name, probe in self._probes.items() if probe.error is None and probe.pod_ip is None}
            if not pending:
                break
            pods = {
                pod["metadata"]["name"]: pod for pod in self._api.list(self._pods_path, labelSelector=f"{RUN_ID}={self._settings.run_id}")
            }
            waited = time.monotonic() - started
            unsettled: list[tuple[Probe, str]] = []
            for probe in pending.values():
                states = {name: pod_state(pods.get(name)) for name in (probe.host_pod, probe.pod)}
                problem = next((f"pod {self.namespace}/{name}: {state.error}" for name, state in states.items() if state.error), None)
                passing = next((state for state in states.values() if state.passing), None)
                if problem is not None:
                    self._fail(probe.node, f"{probe.node}: {problem}", pods=states)
                elif all(state.running for state in states.values()):
                    self._probes[probe.node] = _running(probe, pods[probe.pod]["status"])
                else:
                    name = next(name for name, state in states.items() if not state.running)
                    unsettled.append((probe, name))
                    if passing is not None and waited > _GRACE_S:
                        self._fail(probe.node, f"{probe.node}: pod {self.namespace}/{name}: {passing.passing}", pods=states)
            if unsettled and waited > _GRACE_S:
                self._fail_by_events(unsettled, pods)
                if time.monotonic() - looked > _NODES_S:
                    self._fail_by_nodes(unsettled)
                    looked = time.monotonic()
            if deadline.expired:
                self._fail_late(unsettled, pods, deadline)
                break
            time.sleep(_POLL_S)
        return dict(self._probes)

    def make_services(self, nodes: Sequence[str]) -> list[ProbeService]:
        """Make Services for the probe pods of some of `nodes`; they lead there as soon as the pods run.

        Raises `ProbeError` with what refused them.
        """
        made = []
        for number, node in enumerate(served(nodes), 1):
            name = service_name(number)
            body = self._make(self._services_path, service_body(self._metadata(name, namespace=self.namespace), self._probes[node].pod))
            if body is None:
                break
            spec = body["spec"]
            addresses = tuple(spec.get("clusterIPs") or ())
            made.append(ProbeService(name, self.namespace, node, spec["clusterIP"], spec["ports"][0]["nodePort"], addresses))
        return made

    def make_groups(self) -> list[GroupService]:
        """Make the Services that lead to several probe pods. Raises `ProbeError` with what refused them."""
        made = []
        for name in GROUP_TARGET_PORTS:
            metadata = self._metadata(name, namespace=self.namespace)
            body = self._make(self._services_path, group_body(metadata, name, self._settings.run_id, idle=self._settings.idle))
            if body is None:
                break
            made.append(GroupService(name, self.namespace, tuple(self._grouped), body["spec"]["clusterIP"]))
        return made

    def make_ingresses(self, node: str, routes: Sequence[Route]) -> list[ProbeIngress]:
        """Make a Service for the probe pod of `node`, and Ingresses or HTTPRoutes that lead to it, one for each route.

        Raises `ProbeError` with what refused them.
        """
        service = self._metadata(probe_ingresses.SERVICE, namespace=self.namespace)
        if self._make(self._services_path, probe_ingresses.backend_body(service, self._probes[node].pod)) is None:
            return []
        made = []
        for number, route in enumerate(routes, 1):
            name, host = ingress_name(number), ingress_host(number, self._settings.run_id, route.domain)
            body = probe_ingresses.ingress_body(self._metadata(name, namespace=self.namespace), route, host)
            if self._make(ingress_path(route, self.namespace), body) is None:
                break
            made.append(ProbeIngress(name, self.namespace, route.name, host, node))
        return made

    def make_policy_pods(self, nodes: Sequence[str], deadline: Deadline) -> list[PolicyPod]:
        """Make a pod for a NetworkPolicy on each of `nodes` that is usable, and wait until they run or are known not to."""
        made = []
        for node in nodes:
            if self._probes[node].error is not None:
                continue
            name = pod_name("policy", node)
            labels = {SELECTED: self._settings.run_id}
            self._made_policy_pods = True
            found = PolicyPod(node, self.namespace, name, None, node in self._chosen)
            with self._lock:
                if self._deleted:
                    return []
                try:
                    self._post_pod(self._pod_body(name, node, host=False, labels=labels, command=probe_policies.command(name)))
                except ClusterError as error:
                    told = self._explained(str(error))
                    found = replace(found, error=f"{node}: pod {self.namespace}/{name} could not be made: {told}")
            made.append(found)
        while not self._deleted and any(item.address is None and item.error is None for item in made):
            selector = f"{RUN_ID}={self._settings.run_id},{SELECTED}"
            pods = {pod["metadata"]["name"]: pod for pod in self._api.list(self._pods_path, labelSelector=selector)}
            made = [_policy_pod(item, pods.get(item.name), late=deadline.expired) for item in made]
            time.sleep(_POLL_S)
        return made

    def _make(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make an object beside the pods; None when all of them have been removed meanwhile."""
        name = body["metadata"]["name"]
        with self._lock:
            if self._deleted:
                return None
            self._made.append(f"{path}/{name}")  # before the answer: it may be lost
            try:
                made: dict[str, Any] = self._api.post(path, body)
            except ClusterError as error:
                lacking = body["kind"] in ("Ingress", "HTTPRoute") and "cannot create resource" in str(error)
                hint = "; `k8snet manifests rbac --ingress` prints a role that has this right" if lacking else ""
                raise ProbeError(
                    f"{body['kind']} {self.namespace}/{name} could not be made: {self._explained(str(error))}{hint}"
                ) from error
        return made

    def delete(self) -> None:
        """Remove what was made, however much that is; it may be called twice. Does not wait for the pods to be gone."""
        with self._lock:
            if self._deleted:
                return
            selector = f"{MANAGED_BY}={MANAGER},{RUN_ID}={self._settings.run_id}"
            if self._made_namespace:
                self._api.delete(f"/api/v1/namespaces/{self.namespace}")
            elif self._settings.namespace is not None:
                many = self._api.list(self._services_path, labelSelector=selector) if self._settings.frontends else ()
                of_many = (f"{self._services_path}/{item['metadata']['name']}" for item in many)
                for path in dict.fromkeys((*self._made, *of_many)):
                    self._api.delete(path)
                if self._made_policy_pods:
                    self._remove_policy()
                self._api.delete(self._pods_path, labelSelector=selector, gracePeriodSeconds=0)
            if self._priority_class is not None:
                self._api.delete(f"{PRIORITY_CLASSES}/{self._priority_class}")
            self._deleted = True

    def _remove_policy(self) -> None:
        """Remove what a process that was killed may have left. Who may not has made none."""
        try:
            remove_policy(self._api, self.namespace)
        except ApiError as error:
            if error.status != 403:
                raise

    @property
    def _pods_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def _services_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/services"

    def _metadata(self, name: str, *, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
        settings = self._settings
        return _metadata(name, settings.run_id, namespace, {**settings.labels, **(labels or {})}, settings.deadline_s)

    def _create_priority_class(self) -> None:
        """Make a class below everything that gives no priority, never preempting. Who may not make one goes without."""
        name = f"k8snet-{self._settings.run_id}"
        try:
            self._api.post(
                PRIORITY_CLASSES,
                {
                    "apiVersion": "scheduling.k8s.io/v1",
                    "kind": "PriorityClass",
                    "metadata": self._metadata(name),
                    "value": -1,
                    "preemptionPolicy": "Never",
                    "description": "Probe pods of a pytest-k8snet run: first to go, never in anybody's way.",
                },
            )
        except ApiError as error:
            if error.status in (403, 409):  # not allowed, or somebody else's
                return
            raise
        self._priority_class = name

    def _create_namespace(self) -> None:
        labels = dict.fromkeys((ENFORCE, "pod-security.kubernetes.io/audit", "pod-security.kubernetes.io/warn"), "privileged")
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": self._metadata(self.namespace, labels={**labels, "istio-injection": "disabled", "istio.io/dataplane-mode": "none"}),
        }
        body["metadata"]["annotations"]["linkerd.io/inject"] = "disabled"
        self._made_namespace = True  # before the answer: it may be lost
        try:
            self._api.post("/api/v1/namespaces", body)
        except ApiError:
            self._made_namespace = False
            raise
        # Admission refuses pods until the controller has made the namespace's service account.
        deadline = Deadline.after(30.0)
        while True:
            try:
                self._api.get(f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default")
            except ApiError as error:
                if error.status == 403:
                    return
                if error.status != 404 or deadline.expired:
                    raise
            else:
                return
            time.sleep(0.1)

    def _look_at_namespace(self) -> None:
        try:
            found = self._api.get(f"/api/v1/namespaces/{self.namespace}")
        except ApiError as error:
            if error.status == 404:
                raise ConfigurationError(
                    f"namespace {self.namespace}: the cluster has none of that name; create it, or name none"
                ) from error
            if error.status != 403:
                raise
            return
        level = (found.get("metadata", {}).get("labels") or {}).get(ENFORCE)
        if level in ("baseline", "restricted"):
            raise ConfigurationError(
                f"namespace {self.namespace}: it enforces the Pod Security level {level}, which refuses the host pods: they are "
                f"privileged. Label it {ENFORCE}=privileged, or name none"
            )

    def _create_pods(self, node: Node) -> None:
        probe = self._probes[node.name]
        for name, host in ((probe.host_pod, True), (probe.pod, False)):
            try:
                made = self._post_pod(self._pod(name, node.name, host=host))
            except ApiError as error:
                taken = (
                    f". Another run is using the namespace, or one was killed there: k8snet cleanup --namespace {self.namespace} "
                    "--older-than 1h (or --all, when none is going on) removes what it left"
                )
                self._fail(
                    node.name, f"{node.name}: pod {self.namespace}/{name} was refused: {error}{taken if error.status == 409 else ''}"
                )
                return
            except ClusterError as error:
                self._fail(node.name, f"{node.name}: pod {self.namespace}/{name} could not be made: {error}")
                return
            if (mesh := in_a_mesh(made)) is not None:
                self._fail(node.name, f"{node.name}: pod {self.namespace}/{name}: {mesh}")
                return

    def _post_pod(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        deadline = Deadline.after(10.0)
        while True:
            try:
                made: Mapping[str, Any] = self._api.post(self._pods_path, body)
            except ApiError as error:
                # The service account or the priority class has not reached admission's cache yet.
                early = (
                    error.status == 403 and "not found" in str(error) and ("serviceaccount" in str(error) or "PriorityClass" in str(error))
                )
                if not early or deadline.expired:
                    raise
                time.sleep(0.2)
            else:
                return made

    def _pod(self, name: str, node: str, *, host: bool) -> dict[str, Any]:
        """Return one of the two probe pods of a node."""
        run_id = self._settings.run_id
        group = {GROUP: run_id} if node in self._grouped else {}
        chosen = {CHOSEN: run_id} if node in self._chosen else {}
        labels = {} if host else {SERVED: name, **group, **chosen}
        return self._pod_body(name, node, host=host, labels=labels, command=["sleep", str(self._settings.deadline_s)])

    def _pod_body(self, name: str, node: str, *, host: bool, labels: Mapping[str, str], command: Sequence[str]) -> dict[str, Any]:
        settings = self._settings
        security: dict[str, Any] = (
            {"privileged": True}
            if host
            else {
                "runAsNonRoot": True,
                "runAsUser": _NOBODY,
                "runAsGroup": _NOBODY,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        )
        metadata = self._metadata(name, namespace=self.namespace, labels={**MESH_LABELS, **labels})
        metadata["annotations"].update({NODE: node, "cluster-autoscaler.kubernetes.io/safe-to-evict": "true", **MESH_ANNOTATIONS})
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "hostNetwork": host,
            "hostPID": host,
            "dnsPolicy": "Default",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "activeDeadlineSeconds": settings.deadline_s,
            "tolerations": [{"operator": "Exists"}],
            # Not nodeName: the scheduler then says why a pod cannot be on its node.
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
                    }
                }
            },
            "containers": [
                {
                    "name": "probe",
                    "image": settings.image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": [*command],
                    "workingDir": "/",
                    "securityContext": security,
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                }
            ],
        }
        if self._priority_class is not None:
            spec["priorityClassName"] = self._priority_class
        if settings.image_pull_secret is not None:
            spec["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _fail(self, node: str, message: str, *, pods: Mapping[str, PodState] | None = None) -> None:
        """Keep the reason, with the newest event where the pod's status is too short to tell."""
        for name, state in (pods or {}).items():
            if state.error and not state.told:
                event = newest_event(self._events(), name, state.uid)
                if event and event not in message:
                    message = f"{message}: {event}"
        self._probes[node] = replace(self._probes[node], error=self._explained(message))

    def _explained(self, message: str) -> str:
        """Return a message with who stands in the way, and what to do."""
        ranges: list[str] = []
        if is_limit_range(message):
            with suppress(ClusterError):  # names only make the message better
                ranges = [item["metadata"]["name"] for item in self._api.list(f"/api/v1/namespaces/{self.namespace}/limitranges")]
        return explained(message, self.namespace, ranges)

    def _fail_by_events(self, unsettled: Iterable[tuple[Probe, str]], pods: Mapping[str, Any]) -> None:
        """Give up on pods whose events say that making them keeps failing."""
        events = self._events()
        for probe, name in unsettled:
            if self._probes[probe.node].error is not None:
                continue
            uid = pods.get(name, {}).get("metadata", {}).get("uid")
            event = newest_event(events, name, uid, reasons=("FailedCreatePodSandBox", "FailedMount", "FailedKillPod", "Failed"))
            if event is not None:
                self._fail(probe.node, f"{probe.node}: pod {self.namespace}/{name}: {event}")

    def _fail_by_nodes(self, unsettled: Iterable[tuple[Probe, str]]) -> None:
        """Give up on nodes that have gone, or have become NotReady, since the inventory was read."""
        try:
            nodes = {node.name: node for node in map(read_node, self._api.list("/api/v1/nodes"))}
        except ClusterError:
            return  # it only makes the wait shorter
        for probe, _ in unsettled:
            found = nodes.get(probe.node)
            reason = "the node has gone from the cluster" if found is None else unusable(found)
            if reason is not None and self._probes[probe.node].error is None:
                self._fail(probe.node, f"{probe.node}: {reason}")

    def _fail_late(self, unsettled: Iterable[tuple[Probe, str]], pods: Mapping[str, Any], deadline: Deadline) -> None:
        events = self._events()
        for probe, name in unsettled:
            if self._probes[probe.node].error is None:
                uid = pods.get(name, {}).get("metadata", {}).get("uid")
                last = newest_event(events, name, uid) or "no event says why; is the node's kubelet alive?"
                self._fail(probe.node, f"{probe.node}: pod {self.namespace}/{name}: not running after {deadline.seconds:g} s: {last}")

    def _events(self) -> list[dict[str, Any]]:
        try:
            return [*self._api.list(f"/api/v1/namespaces/{self.namespace}/events")]
        except ApiError:
            return []  # they only make the message better


@dataclass(frozen=True, slots=True)
class PodState:
    """What a pod's status says: it runs, it never will (`error`), or something stands in its way that may pass (`passing`)."""

    running: bool = False
    error: str | None = None
    passing: str | None = None
    told: bool = True  # whether the error's text is complete without events
    uid: str | None = None


def _running(probe: Probe, status: Mapping[str, Any]) -> Probe:
    address = status["podIP"]
    return replace(probe, pod_ip=address, pod_ips=tuple(item["ip"] for item in status.get("podIPs") or ({"ip": address},)))


def _policy_pod(item: PolicyPod, pod: Mapping[str, Any] | None, *, late: bool) -> PolicyPod:
    """Return what is known of such a pod by its status."""
    if item.address is not None or item.error is not None:
        return item
    state = pod_state(pod)
    if state.running and pod is not None:
        return replace(item, address=pod["status"]["podIP"])
    why = state.error or (f"does not run yet: {state.passing or 'its status says no reason'}" if late else None)
    return item if why is None else replace(item, error=f"{item.node}: pod {item.namespace}/{item.name}: {why}")


class NoProbes:
    """What an access without probe pods has in their place: nothing is made, and nothing has to be removed."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = [*nodes]

    def wait(self, deadline: Deadline) -> Mapping[str, Probe]:
        """Return one probe without pods a node."""
        del deadline
        problems = {node.name: unusable(node) for node in self._nodes}
        return {name: Probe.none(name, None if problem is None else f"{name}: {problem}") for name, problem in problems.items()}

    def make_services(self, nodes: Sequence[str]) -> list[ProbeService]:
        """Make none: there is no pod that they could lead to."""
        del nodes
        return []

    def make_groups(self) -> list[GroupService]:
        """Make none either."""
        return []

    def make_ingresses(self, node: str, routes: Sequence[Route]) -> list[ProbeIngress]:
        """Make none: there is no pod that they could lead to."""
        del node, routes
        return []

    def make_policy_pods(self, nodes: Sequence[str], deadline: Deadline) -> list[PolicyPod]:
        """Make none: there is no pod that could ask them."""
        del nodes, deadline
        return []

    def delete(self) -> None:
        """Nothing was made."""


def start_probes(api: Api, cluster: Cluster, settings: ProbeSettings, *, nodes: Sequence[str] | None = None) -> RunningProbes:
    """Create the probe pods on `nodes` (all of the cluster by default). When it fails or is interrupted it removes what it made."""
    chosen = cluster.nodes if nodes is None else [cluster.node(name) for name in nodes]
    probes = RunningProbes(api, settings, chosen)
    try:
        probes.create()
    except BaseException as error:
        try:
            probes.delete()
        except K8sNetError as second:
            error.add_note(f"and the probe pods could not be removed: {second}; k8snet cleanup does it later")
        if isinstance(error, ApiError) and not isinstance(error, ProbeError):
            raise ProbeError(f"probe pods: {explained(str(error), probes.namespace)}") from error
        raise
    return probes


def make_frontends(api: Api, probe: Probe, run_id: str, number: int, ports: int) -> str:
    """Make the Service with that number and so many ports for a probe pod; return its ClusterIP."""
    metadata = _metadata(scale_name(number), run_id, probe.namespace, {}, DEADLINE_S)
    made = api.post(f"/api/v1/namespaces/{probe.namespace}/services", scale_body(metadata, probe.pod, ports))
    return str(made["spec"]["clusterIP"])


def lead_ingress(api: Api, probe: Probe) -> None:
    """Let the Service behind Ingresses select a probe pod, and no other."""
    patch = {"spec": {"selector": {SERVED: probe.pod}}}
    api.merge(f"/api/v1/namespaces/{probe.namespace}/services/{probe_ingresses.SERVICE}", patch)


def make_policy(api: Api, namespace: str, run_id: str) -> None:
    """Make the NetworkPolicy for the pods that were made for it."""
    metadata = _metadata(probe_policies.NAME, run_id, namespace, {}, DEADLINE_S)
    api.post(policy_path(namespace), probe_policies.policy_body(metadata, run_id))


def remove_policy(api: Api, namespace: str) -> None:
    """Remove it; one that is gone is fine."""
    api.delete(f"{policy_path(namespace)}/{probe_policies.NAME}")


def _metadata(name: str, run_id: str, namespace: str | None, labels: Mapping[str, str], deadline_s: int) -> dict[str, Any]:
    expires = datetime.now(UTC) + timedelta(seconds=deadline_s)
    metadata = {
        "name": name,
        "labels": {**labels, MANAGED_BY: MANAGER, RUN_ID: run_id},
        "annotations": {EXPIRES: expires.isoformat(timespec="seconds")},
    }
    return {**metadata, "namespace": namespace} if namespace else metadata


def regroup(api: Api, probe: Probe, run_id: str, *, member: bool) -> None:
    """Let a probe pod be one of those that a Service of several selects, or no more."""
    api.merge(f"/api/v1/namespaces/{probe.namespace}/pods/{probe.pod}", {"metadata": {"labels": {GROUP: run_id if member else None}}})


def relay_to_kubelet(api: Api, probe: Probe) -> tuple[int, str]:
    """Let the API server ask the kubelet of a probe pod for a line of its log; return the status and what was said."""
    return api.relayed(f"/api/v1/namespaces/{probe.namespace}/pods/{probe.pod}/log", tailLines=1)


def relay_to_pod(api: Api, probe: Probe, port: int, path: str) -> tuple[int, str]:
    """Let the API server send an HTTP request to the address of a probe pod; return the status and what was said."""
    return api.relayed(f"/api/v1/namespaces/{probe.namespace}/pods/{probe.pod}:{port}/proxy/{path}")


def pod_name(role: str, node: str) -> str:
    """Return a pod's name; what of a node's name is too long or not allowed in it is left out, and told apart by a hash."""
    name = f"{role}-{node}"
    if len(name) <= 63 and _POD_NAME.fullmatch(name):
        return name
    allowed = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return f"{allowed[:50].rstrip('-')}-{hashlib.sha256(node.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def unusable(node: Node) -> str | None:
    """Return why nothing is tried on `node`."""
    if node.excluded is not None:
        return node.excluded
    if not node.ready:
        return f"the node is NotReady: {node.not_ready_reason or 'no reason given'}"
    return None


def pod_state(pod: Mapping[str, Any] | None) -> PodState:
    """Read a pod's status."""
    if pod is None:
        return PodState(error="is gone; something deleted it")
    uid = pod["metadata"].get("uid")
    status = pod.get("status", {})
    phase = status.get("phase")
    if phase in ("Failed", "Succeeded"):
        reason = status.get("reason") or _termination(status) or phase
        return PodState(error=f"{reason}: {status.get('message') or 'no message'}", told=bool(status.get("message")), uid=uid)
    if pod["metadata"].get("deletionTimestamp"):
        return PodState(error="is being deleted", told=False, uid=uid)
    for container in status.get("containerStatuses") or ():
        waiting = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason")
        text = f"{reason}: {waiting.get('message') or 'no message'}"
        if reason in _HOPELESS:
            return PodState(error=text, told=reason not in ("ImagePullBackOff", "RunContainerError"), uid=uid)
        if reason in _PASSING:
            return PodState(passing=text, uid=uid)
        if container.get("state", {}).get("running") and status.get("podIP"):
            return PodState(running=True, uid=uid)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return PodState(passing=f"{condition.get('reason')}: {condition.get('message')}", uid=uid)
    return PodState(uid=uid)


def newest_event(events: Iterable[Mapping[str, Any]], pod: str, uid: str | None, *, reasons: Sequence[str] | None = None) -> str | None:
    """Return the newest warning about a pod, as ``reason: message``."""
    about = [
        event
        for event in events
        if event.get("type") == "Warning"
        and event.get("involvedObject", {}).get("name") == pod
        and uid in (None, event.get("involvedObject", {}).get("uid"))
        and (reasons is None or event.get("reason") in reasons)
    ]
    if not about:
        return None
    # "Error: ImagePullBackOff" is newer than the event that says what went wrong.
    telling = [event for event in about if not str(event.get("message", "")).startswith("Error: ")] or about
    event = max(telling, key=_event_time)
    return f"{event.get('reason')}: {' '.join(str(event.get('message', '')).split())[:600]}"


def _event_time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("metadata", {}).get("creationTimestamp") or "")


def _termination(status: Mapping[str, Any]) -> str | None:
    for container in status.get("containerStatuses") or ():
        ended = container.get("state", {}).get("terminated")
        if ended:
            return f"{ended.get('reason')} (exit status {ended.get('exitCode')})"
    return None
