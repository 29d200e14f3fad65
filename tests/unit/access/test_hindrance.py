"""Messages of real API servers, schedulers and CNIs about pods that are refused or do not start."""

from __future__ import annotations

import pytest

from pytest_k8snet.access.hindrance import explained, in_a_mesh, is_limit_range

ELSEWHERE = ", or let the run use another namespace (--k8snet-namespace)"
FULL = "make room there, or leave the node out (--k8snet-nodes) or allow it to be missing (--k8snet-allow-missing)"
BY_DEFAULT = "a LimitRange with defaults says it for them; add one"
NO_ADDRESS = f"the addresses that the CNI has for pods of this node are used up (NET-CONTROL-003): the network's fault it is not; {FULL}"
CASES = {
    "quota": (
        "exceeded quota: few-pods, requested: pods=1, used: pods=1, limited: pods=1",
        f"ResourceQuota shop/few-pods has no room for what the run makes: raise it{ELSEWHERE}",
    ),
    "quota-of-limits": (
        "failed quota: wants-limits: must specify limits.cpu for: probe",
        f"ResourceQuota shop/wants-limits takes only pods that say what they use at most: {BY_DEFAULT}{ELSEWHERE}",
    ),
    "limit-range": (
        "minimum memory usage per Container is 64Mi, but request is 32Mi",
        f"a LimitRange of namespace shop takes no pods as small as the probe pods, or no pods without limits: change it{ELSEWHERE}",
    ),
    "validating-admission-policy": (
        "ValidatingAdmissionPolicy 'no-host' with binding 'no-host-apps' denied request: pods may not use the host network",
        f"ValidatingAdmissionPolicy no-host refuses it: except the namespace from its binding no-host-apps{ELSEWHERE}",
    ),
    "webhook": (
        'admission webhook "validate.kyverno.svc-fail" denied the request: hostNetwork is not allowed',
        f"the admission webhook validate.kyverno.svc-fail refuses it: except the namespace from its policy{ELSEWHERE}",
    ),
    "webhook-gone": (
        'HTTP 500: Internal error occurred: failed calling webhook "pods.policy.example": service "gone" not found',
        "nobody answers for the admission webhook pods.policy.example, and its failurePolicy is Fail: NET-CONTROL-007 tells whose it is",
    ),
    "pod-security": (
        'violates PodSecurity "baseline:latest": privileged',
        f"label namespace shop pod-security.kubernetes.io/enforce=privileged{ELSEWHERE}",
    ),
    "openshift": (
        "unable to validate against any security context constraint: [provider restricted-v2: .spec.hostNetwork]",
        "OpenShift's security context constraints refuse it: `oc adm policy add-scc-to-user privileged -z default -n shop`",
    ),
    "host-local": ("failed to allocate for range 0: no IP addresses available in range set: 10.244.1.1-10.244.1.254", NO_ADDRESS),
    "calico": ("failed to request IPv4 addresses: Assigned 0 out of 1 requested IPv4 addresses; No more free affine blocks", NO_ADDRESS),
    "cilium": ("unable to allocate IP via local cilium agent: range is full", NO_ADDRESS),
    "aws": ('plugin type="aws-cni" name="aws-cni" failed (add): add cmd: failed to assign an IP address to container', NO_ADDRESS),
    "out-of-pods": (
        "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110",
        f"the node is full: the network's fault it is not; {FULL}",
    ),
    "unschedulable": (
        "Unschedulable: 0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match Pod's node affinity/selector.",
        f"the node is full: the network's fault it is not; {FULL}",
    ),
}


@pytest.mark.parametrize(("said", "want"), CASES.values(), ids=CASES)
def test_who_stands_in_the_way(said: str, want: str) -> None:
    message = f"node-1: pod shop/probe-node-1: {said}"
    assert explained(message, "shop") == f"{message}; {want}"


def test_a_limit_range_is_named() -> None:
    said = CASES["limit-range"][0]
    assert is_limit_range(said)
    assert not is_limit_range(CASES["quota"][0])
    assert "; LimitRange shop/small or LimitRange shop/large takes no pods as small" in explained(said, "shop", ["small", "large"])


def test_other_messages_stay() -> None:
    message = "node-1: pod shop/probe-node-1: FailedMount: no such file"
    assert explained(message, "shop") == message


def test_a_mesh_that_takes_pods_in_all_the_same() -> None:
    assert in_a_mesh({"spec": {"containers": [{"name": "probe"}, {"name": "log-agent"}]}}) is None
    assert in_a_mesh({}) is None
    told = in_a_mesh({"spec": {"initContainers": [{"name": "istio-init"}], "containers": [{"name": "probe"}, {"name": "istio-proxy"}]}})
    assert told == (
        "Istio has put istio-init, istio-proxy into it, though labels and annotations of the pod say that it is not to: what is measured "
        f"would be the mesh and not the network; turn injection off for the namespace{ELSEWHERE}"
    )
