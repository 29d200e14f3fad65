"""Who answers for addresses of load balancers, in a whole run."""

from __future__ import annotations

from tests.plugin.bench import Bench

CHECK = ("--k8snet-checks=NET-REACH-006", "--k8snet-level=probe")
SERVICE = """
service = {
    "metadata": {"namespace": "default", "name": "web", "uid": "w", "resourceVersion": "1"},
    "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": []},
    "status": {"loadBalancer": {"ingress": [{"ip": "192.168.10.250"}]}},
}
fake.objects._services = (*fake.objects._services, service)
"""


def test_one_owner(bench: Bench) -> None:
    bench.cluster(SERVICE)
    ran = bench.run(*CHECK)
    assert (ran.status, ran.verdicts) == (0, {"NET-REACH-006[cluster]": "pass"}), ran.out
    heard = [bench.record(f"owners/node-{number}.json")["values"]["heard"][0]["answers"] for number in (1, 2, 3)]
    assert heard == [{"192.168.10.250": answer} for answer in ([], ["02:00:00:00:00:01"], ["02:00:00:00:00:01"])]


def test_two_owners(bench: Bench) -> None:
    both = '["02:00:00:00:00:01", "02:00:00:00:00:03"]'
    answer = f'{{"device": "eth0", "mac": "x", "macs": [], "network": "192.168.10.12/24", "answers": {{"192.168.10.250": {both}}}}}'
    bench.cluster(f'{SERVICE}\nfrom pytest_k8snet.measure import owners\nowners.MOVED_S = 0\nfake.answer("node-2", "arp.ask", {answer})')
    ran = bench.run(*CHECK, own_process=True)
    assert (ran.status, ran.verdicts) == (1, {"NET-REACH-006[cluster]": "fail"}), ran.out
    two = "192.168.10.250 of Service default/web: 2 machines answer for it: 02:00:00:00:00:01 (node-1), 02:00:00:00:00:03 (node-3)"
    assert two in ran.out


def test_there_is_no_load_balancer(bench: Bench) -> None:
    ran = bench.run(*CHECK)
    assert ran.verdicts == {"NET-REACH-006[cluster]": "skip"}
    assert "no Service has an IPv4 address of a load balancer that nodes answer for" in ran.out
