"""What the API server reaches by itself, in a whole run."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench

CHECKS = ("--k8snet-checks=NET-CONTROL-009", "--k8snet-level=probe")
NODES = ("node-1", "node-2", "node-3")
QUICK = """
    from pytest_k8snet.measure import relayed
    relayed.BETWEEN_S = 0
"""
NO_POD = "error trying to reach service: dial tcp 10.244.2.5:9443: connect: no route to host"
NO_KUBELET = 'Get "https://192.168.10.11:10250/containerLogs/x": dial tcp 192.168.10.11:10250: i/o timeout'


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_a_healthy_cluster(bench: Bench, way: str) -> None:
    ran = bench.run(*CHECKS, way)
    assert (ran.status, ran.verdicts) == (0, {f"NET-CONTROL-009[{name}]": "pass" for name in NODES})


def test_a_kubelet_and_a_pod_that_are_not_reached(bench: Bench) -> None:
    """Nothing else can be measured of the node whose kubelet is cut off, and the check is judged all the same."""
    bench.cluster(f"""{QUICK}
    from pytest_k8snet.errors import AccessError
    fake.relayed["kubelet", "node-1"] = (500, {NO_KUBELET!r})
    for role in ("host", "pod"):
        for op in ("facts", "ingress.serve"):
            fake.answer("node-1", op, AccessError("node-1: exec refused with HTTP 500"), role=role)
    fake.relayed["pod", "node-2"] = (503, {NO_POD!r})
    """)
    ran = bench.run("--k8snet-checks=NET-CONTROL-009,NET-KERNEL-001", "--k8snet-level=probe", own_process=True)
    assert ran.status == 1
    assert {name: verdict for name, verdict in ran.verdicts.items() if verdict not in ("pass", "skip")} == {
        "NET-CONTROL-009[node-1]": "fail",
        "NET-CONTROL-009[node-2]": "fail",
        "NET-KERNEL-001[node-1]": "error",
    }
    assert f"node-1: the API server does not reach the kubelet: {NO_KUBELET} (3 tries)" in ran.out
    assert (
        f"node-2: the API server does not reach the pod at 10.244.2.5 port 9443: {NO_POD} (3 tries, of which 1 got to the pod: "
        "its answers do not get back); those of 1 of 1 other nodes it does"
    ) in ran.out


def test_a_cluster_whose_api_server_reaches_no_pod(bench: Bench) -> None:
    bench.cluster(f"""{QUICK}
    for name in fake.nodes:
        fake.relayed["pod", name] = (503, {NO_POD!r})
    """)
    assert bench.run(*CHECKS, own_process=True).status == 0
    bench.write("ours.yaml", "name: ours\ncontrol_plane: { reaches_pods: true }\n")
    ran = bench.run(*CHECKS, "--k8snet-profile=ours.yaml", own_process=True)
    assert (ran.status, set(ran.verdicts.values())) == (1, {"fail"})


def test_what_a_policy_blocks_and_what_rights_do_not_allow_is_not_broken(bench: Bench) -> None:
    bench.cluster(f"""{QUICK}
    from pytest_k8snet.cluster.policies.reading import Policies
    deny = {{"metadata": {{"namespace": "shop", "name": "default-deny"}}, "spec": {{"podSelector": {{}}, "policyTypes": ["Ingress"]}}}}
    fake.policies = Policies(objects={{"NetworkPolicy": [deny]}})
    fake.relayed["pod", "node-1"] = (503, {NO_POD!r})
    fake.relayed["pod", "node-2"] = fake.relayed["kubelet", "node-2"] = (403, 'User "me" cannot get resource')
    """)
    ran = bench.run(*CHECKS, own_process=True)
    assert ran.verdicts == {
        "NET-CONTROL-009[node-1]": "inconclusive",
        "NET-CONTROL-009[node-2]": "skip",
        "NET-CONTROL-009[node-3]": "pass",
    }
    assert "default-deny: blocked is not broken" in ran.out


def test_without_probe_pods_there_is_nothing_that_could_be_asked_for(bench: Bench) -> None:
    bench.cluster("fake.pods = False")
    ran = bench.run(*CHECKS, own_process=True)
    assert (ran.status, set(ran.verdicts.values())) == (5, {"skip"}), "nothing was judged"
    assert "access fake makes no probe pods here" in ran.out
