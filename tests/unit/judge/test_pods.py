from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.expect.model import KernelExpectation, SysctlWant
from pytest_k8snet.judge import pods
from tests.unit.judge.builder import facts, link, network, outcome, told

ORIGIN = "profile tuned-node.yaml:7"
KEY = "net.ipv4.tcp_tw_reuse"
TUNED = KernelExpectation(pod_sysctls=(SysctlWant(KEY, "=", "1", ORIGIN),))
SYSCTL = f"nsenter --net=/proc/PID/ns/net sysctl {KEY}"
ROUTE = "nsenter --net=/proc/PID/ns/net ip route"
NONE = ("skip", "no other pod with a network of its own runs on this node")
UNREAD = ("error", "node-1: the pods that were there before were not looked at: nsenter: not on the node")


def pod(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, **network(**changes)}


def tuned(name: str, value: str | None) -> dict[str, Any]:
    return pod(name, sysctls={KEY: value})


@pytest.mark.parametrize(
    ("changes", "expect", "expected", "noted"),
    [
        pytest.param({}, TUNED, ("pass", ""), [], id="healthy"),
        pytest.param(
            {"existing_pods": [tuned("a/one", "1"), tuned("a/two", "2")]},
            TUNED,
            (
                "fail",
                (
                    f"node-1: 1 pods that were there before have another {KEY} (a/two 2), want 1 ({ORIGIN}); "
                    f"2 of 2 pods were looked at ({SYSCTL})"
                ),
            ),
            [],
            id="older-than-the-tuning",
        ),
        pytest.param(
            {"existing_pods": [tuned(f"a/{number}", "2\t3" if number else None) for number in range(5)], "existing_pods_running": 70},
            TUNED,
            (
                "fail",
                (
                    f"node-1: 5 pods that were there before have another {KEY} (a/0 unknown there; a/1 2 3; a/2 2 3; and 2 more), "
                    f"want 1 ({ORIGIN}); 5 of 70 pods were looked at ({SYSCTL})"
                ),
            ),
            ["node-1: 5 of 70 pods were looked at"],
            id="many-of-a-sample",
        ),
        pytest.param(
            {"existing_pods": [tuned("a/one", "2")]},
            replace(TUNED, advice=True),
            ("skip", "no profile wants a sysctl in pods"),
            [f"node-1: 1 pods that were there before have another {KEY} (a/one 2), want 1 ({ORIGIN}); 1 of 1 pods were looked at"],
            id="nobody-asked",
        ),
        pytest.param(
            {"existing_pods": [pod("a/one", sysctls={})]},
            TUNED,
            ("error", f"node-1: another {KEY}: was not measured in any pod ({SYSCTL})"),
            [],
            id="not-measured",
        ),
        pytest.param({"existing_pods": []}, TUNED, NONE, [], id="no-pods"),
        pytest.param({"existing_pods": [], "errors": {"existing_pods": "nsenter: not on the node"}}, TUNED, UNREAD, [], id="not-read"),
        pytest.param({}, KernelExpectation(), ("skip", "no profile wants a sysctl in pods"), [], id="nothing-wanted"),
    ],
)
def test_sysctls(changes: dict[str, Any], expect: KernelExpectation, expected: tuple[str, str], noted: list[str]) -> None:
    judgement = pods.sysctls(facts(**changes), expect)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") + told(judgement, "advice") == noted


NEIGHBOURS = [{"dst": "10.244.1.0/24", "dev": "eth0"}]
SIX = [{"dst": "default", "gateway": "fe80::1", "dev": "eth0"}]


ELSEWHERE = (
    "node-1: 1 pods have a device that is up and no route at all, as those of gVisor and of virtual machines have it, not judged: a/vm"
)


def lost(problem: str) -> tuple[str, str]:
    return (
        "fail",
        (
            f"node-1: 1 pods that were there before have no way out (a/one {problem}), want a default route (built-in); "
            f"1 of 1 pods were looked at ({ROUTE})"
        ),
    )


@pytest.mark.parametrize(
    ("found", "expected", "noted"),
    [
        pytest.param([pod("a/one")], ("pass", ""), [], id="healthy"),
        pytest.param([pod("a/one", routes=SIX)], ("pass", ""), [], id="ipv6-alone"),
        pytest.param([pod("a/one", routes=NEIGHBOURS)], lost("no default route"), [], id="no-default-route"),
        pytest.param([pod("a/one", links=[link("lo"), link("eth0", flags=[])])], lost("eth0 is down"), [], id="device-is-down"),
        pytest.param([pod("a/one", links=[link("lo"), link("net1")])], lost("eth0 is down"), [], id="device-is-gone"),
        pytest.param(
            [pod("a/one"), pod("a/two", links=[link("lo")], routes=[])],
            ("pass", ""),
            ["node-1: 1 pods have no device but lo in their network namespace, not judged"],
            id="a-stack-of-its-own",
        ),
        pytest.param(
            [pod("a/two", links=[link("lo")], routes=[])],
            ("skip", "no other pod on this node has a device in its network namespace"),
            ["node-1: 1 pods have no device but lo in their network namespace, not judged"],
            id="stacks-of-their-own",
        ),
        pytest.param(
            [pod("a/one"), pod("a/vm", routes=[])],
            ("pass", ""),
            [ELSEWHERE],
            id="routes-elsewhere",
        ),
        pytest.param(
            [pod("a/vm", routes=[])],
            ("skip", "no other pod on this node has a route in its network namespace"),
            [ELSEWHERE],
            id="all-routes-elsewhere",
        ),
        pytest.param(
            [pod("a/one", links=[link("lo"), link("eth0", flags=[])], routes=[])],
            lost("no default route"),
            [],
            id="device-is-down-and-its-routes-are-gone",
        ),
        pytest.param([], NONE, [], id="no-pods"),
    ],
)
def test_routes(found: list[dict[str, Any]], expected: tuple[str, str], noted: list[str]) -> None:
    judgement = pods.routes(facts(existing_pods=found))
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == noted


def test_routes_that_were_not_read() -> None:
    assert outcome(pods.routes(facts(existing_pods=[], errors={"existing_pods": "nsenter: not on the node"}))) == UNREAD


def test_pods_of_which_none_was_looked_at_are_not_taken_for_none() -> None:
    """As where all that were chosen ended meanwhile."""
    found = facts(existing_pods=[], existing_pods_running=7)
    for judgement in (pods.routes(found), pods.sysctls(found, TUNED)):
        assert outcome(judgement) == ("skip", "none of 7 pods was looked at")
        assert judgement.unsupported
