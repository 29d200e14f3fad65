from __future__ import annotations

import datetime
import re

import pytest

from tests.plugin.bench import Bench

FIVE = """
@check("ACME-PASS")
def test_pass(k8snet_node, k8snet_verdict):
    judgement = Judgement(want="forwarding (built-in)")
    judgement.check(k8snet_node.sysctl("net.ipv4.ip_forward") == "1", "never said")
    judgement.advise(f"{k8snet_node.name}: could be better")
    judgement.evidence["forwarding"] = "1"
    k8snet_verdict(judgement)

@check("ACME-FAIL")
def test_fail(k8snet_cluster, k8snet_verdict):
    judgement = Judgement()
    for number, mtu in ((1, 1450), (2, 1400)):
        message = f"node-{number}: eth0 MTU {mtu}, want 1500"
        judgement.check(False, message, measured=mtu, wanted="1500 (profile x.yaml:7)", command="ip -j link show eth0")
    k8snet_verdict(judgement)

@check("ACME-ERROR")
def test_error(k8snet_cluster):
    raise MeasurementError("node-1: nothing could be read")

@check("ACME-SKIP")
def test_skip(k8snet_cluster, k8snet_verdict):
    k8snet_verdict(Judgement.skipped("no tunnel is expected"))

@check("ACME-INCONCLUSIVE")
def test_inconclusive(k8snet_cluster, k8snet_verdict):
    judgement = Judgement()
    judgement.inconclusive("node-1: the baseline is too noisy", command="iperf3 -c node-2")
    k8snet_verdict(judgement)
"""


@pytest.fixture(params=["-n2", "-pno:xdist"])
def ways(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_five_verdicts(bench: Bench, ways: str) -> None:
    bench.checks(FIVE)
    ran = bench.own(ways)
    assert ran.status == 1
    assert ran.verdicts == {
        "ACME-PASS[node-1]": "pass",
        "ACME-PASS[node-2]": "pass",
        "ACME-PASS[node-3]": "pass",
        "ACME-FAIL[cluster]": "fail",
        "ACME-ERROR[cluster]": "error",
        "ACME-SKIP[cluster]": "skip",
        "ACME-INCONCLUSIVE[cluster]": "inconclusive",
    }
    outcomes = {name: case.outcome for name, case in ran.cases.items()}
    assert outcomes["ACME-PASS[node-2]"] == "passed"
    assert outcomes["ACME-FAIL[cluster]"] == "failure"
    assert outcomes["ACME-ERROR[cluster]"] == "error"
    assert outcomes["ACME-SKIP[cluster]"] == "skipped"
    assert outcomes["ACME-INCONCLUSIVE[cluster]"] == "error"
    assert {case.classname for case in ran.cases.values()} == {"k8snet.test_own"}
    assert ran.line("FAILED ACME-FAIL") == "FAILED ACME-FAIL[cluster] - node-1: eth0 MTU 1450, want 1500 (ip -j link show eth0)"
    assert "    node-2: eth0 MTU 1400, want 1500 (ip -j link show eth0)" in ran.out.splitlines()
    assert ran.line("ERROR ACME-ERROR") == "ERROR ACME-ERROR[cluster] - node-1: nothing could be read"
    assert ran.line("INCONCLUSIVE") == "INCONCLUSIVE ACME-INCONCLUSIVE[cluster] - node-1: the baseline is too noisy (iperf3 -c node-2)"
    assert ran.line("SKIPPED") == "SKIPPED ACME-SKIP[cluster] - no tunnel is expected"
    assert ran.line("ADVICE") == "ADVICE ACME-PASS[node-1, node-2, node-3] - ...: could be better"
    assert ran.line("verdicts:") == "verdicts: 3 pass, 1 fail, 1 error, 1 inconclusive, 1 skip"
    assert "Traceback" not in ran.out


def test_evidence_in_junit(bench: Bench) -> None:
    bench.checks(FIVE)
    ran = bench.own()
    failed = ran.cases["ACME-FAIL[cluster]"]
    assert failed.properties == {
        "k8snet_check": "ACME-FAIL",
        "k8snet_subject": "cluster",
        "k8snet_verdict": "fail",
        "k8snet_title": "title of ACME-FAIL",
        "k8snet_message": (
            "node-1: eth0 MTU 1450, want 1500 (ip -j link show eth0)\nnode-2: eth0 MTU 1400, want 1500 (ip -j link show eth0)"
        ),
        "k8snet_measured": "1450; 1400",
        "k8snet_wanted": "1500 (profile x.yaml:7)",
        "k8snet_origin": "profile x.yaml:7",
        "k8snet_command": "ip -j link show eth0",
    }
    assert "eth0 MTU 1450" in failed.text
    passed = ran.cases["ACME-PASS[node-1]"].properties
    assert passed["k8snet_evidence"] == '{"forwarding": "1"}'
    assert passed["k8snet_advice"] == "node-1: could be better"
    assert not {"k8snet_origin", "k8snet_title", "k8snet_fix"} & passed.keys()
    assert ran.cases["ACME-ERROR[cluster]"].properties["k8snet_message"] == "node-1: nothing could be read"


def test_results_in_run_json(bench: Bench) -> None:
    bench.checks(FIVE)
    assert bench.own().status == 1
    results = bench.record("run.json")["results"]
    assert results["exit_status"] == 1
    assert results["verdicts"] == {"pass": 3, "fail": 1, "error": 1, "skip": 1, "inconclusive": 1}
    assert results["lost"] == []
    assert results["cases"]["ACME-SKIP[cluster]"] == {
        "check": "ACME-SKIP",
        "subject": "cluster",
        "verdict": "skip",
        "message": "no tunnel is expected",
        "excused": None,
        "advice": [],
    }


@pytest.mark.parametrize(
    ("body", "verdict", "outcome", "message"),
    [
        ("assert k8snet_node.sysctl('net.ipv4.ip_forward') == '0'", "fail", "failure", "assert '1' == '0'"),
        ("assert False, 'two\\nlines'", "fail", "failure", "two\n  lines"),
        ("pytest.fail('said so', pytrace=False)", "fail", "failure", "said so"),
        ("raise MeasurementError('could not')", "error", "error", "could not"),
        ("{}['x']", "error", "error", "KeyError: 'x'"),
        ("k8snet_node.interface('eth9')", "error", "error", "node-1: no device eth9; it has: lo, eth0, cni0, kube-ipvs0"),
        ("k8snet_node.run(['whoami'])", "error", "error", "node-1: run: the fake has no answer to ['whoami']"),
        ("pytest.skip('not today')", "skip", "skipped", "not today"),
        ("request.getfixturevalue('k8snet_measure')('nothing')", "error", "error", "no measurement is called 'nothing'"),
    ],
    ids=["assert", "assert-message", "pytest-fail", "our-error", "bug", "no-device", "no-command", "pytest-skip", "no-measurement"],
)
def test_what_a_check_may_end_with(bench: Bench, body: str, verdict: str, outcome: str, message: str) -> None:
    bench.cluster(nodes=("node-1",))
    bench.checks(f"""
        @check("ACME-1")
        def test_it(request, k8snet_node):
            {body}
    """)
    ran = bench.own()
    case = ran.cases["ACME-1[node-1]"]
    assert (case.verdict, case.outcome) == (verdict, outcome)
    assert case.properties["k8snet_message"].startswith(message)
    assert ran.status == (5 if verdict == "skip" else 1)


@pytest.mark.parametrize(
    ("code", "name", "verdict", "outcome", "message", "status"),
    [
        (
            "@check('A-1')\n@pytest.mark.xfail(strict=True, reason='known')\ndef test_it(k8snet_cluster):\n    assert 0",
            "A-1[cluster]",
            "skip",
            "skipped",
            "xfail: known",
            5,
        ),
        (
            "@check('A-1')\n@pytest.mark.xfail(strict=True)\ndef test_it(k8snet_cluster):\n    pass",
            "A-1[cluster]",
            "fail",
            "failure",
            "[XPASS(strict)]",
            1,
        ),
        (
            "@check('A-1')\n@pytest.mark.skip(reason='later')\ndef test_it(k8snet_cluster):\n    pass",
            "A-1[cluster]",
            "skip",
            "skipped",
            "later",
            5,
        ),
        (
            "@pytest.fixture\ndef broken():\n    raise OSError('disk')\n\n@check('A-1')\ndef test_it(k8snet_cluster, broken):\n    pass",
            "A-1[cluster]",
            "error",
            "error",
            "OSError: disk",
            1,
        ),
        (
            "@pytest.fixture\ndef broken():\n    assert 0, 'no'\n\n@check('A-1')\ndef test_it(k8snet_cluster, broken):\n    pass",
            "A-1[cluster]",
            "error",
            "error",
            "AssertionError: no",
            1,
        ),
        (
            (
                "@pytest.fixture\ndef broken():\n    yield\n    raise OSError('disk')\n\n"
                "@check('A-1')\ndef test_it(k8snet_cluster, broken):\n    pass"
            ),
            "A-1[cluster]",
            "error",
            "error",
            "teardown: OSError: disk",
            1,
        ),
        (
            "def test_it(k8snet_cluster):\n    '''Nodes are named.\n\n    More.'''\n    assert k8snet_cluster.nodes",
            "test_own.test_it[cluster]",
            "pass",
            "passed",
            "",
            0,
        ),
    ],
    ids=["xfail", "strict-xpass", "skip-mark", "setup-error", "assert-in-setup", "teardown-error", "no-marker"],
)
def test_pytest_s_own_outcomes(bench: Bench, code: str, name: str, verdict: str, outcome: str, message: str, status: int) -> None:
    bench.checks(code)
    ran = bench.own()
    case = ran.cases[name]
    assert (case.verdict, case.outcome, case.properties.get("k8snet_message", "")) == (verdict, outcome, message)
    assert ran.status == status


def test_a_failure_stays_one_when_its_teardown_breaks_too(bench: Bench) -> None:
    bench.checks("""
        @pytest.fixture
        def broken():
            yield
            raise OSError("disk")

        @check("A-1")
        def test_it(k8snet_cluster, broken):
            raise AssertionError("node-1: too slow")
    """)
    report = bench.path / "none.xml"
    ran = bench.own(f"--junitxml={report}")  # JUnit has two elements for this
    assert ran.status == 1
    assert ran.line("FAILED A-1") == "FAILED A-1[cluster] - node-1: too slow"
    assert "    teardown: OSError: disk" in ran.out.splitlines()
    assert ran.line("verdicts:") == "verdicts: 1 fail"


@pytest.mark.parametrize(
    ("want", "origin"),
    [
        ("scheduler rr (claim ConfigMap x ipvs.scheduler (empty means rr))", "claim ConfigMap x ipvs.scheduler (empty means rr)"),
        ("0.8 (built-in, encapsulation vxlan)", "built-in, encapsulation vxlan"),
        ("one mode on all nodes of a group", None),
        ("a) b", None),
    ],
)
def test_where_a_want_comes_from(bench: Bench, want: str, origin: str | None) -> None:
    bench.checks(f"""
        @check("A-1")
        def test_it(k8snet_cluster, k8snet_verdict):
            judgement = Judgement(want={want!r})
            judgement.check(False, "wrong")
            k8snet_verdict(judgement)
    """)
    assert bench.own().cases["A-1[cluster]"].properties.get("k8snet_origin") == origin


WAIVED = """
@check("ACME-1")
def test_it(k8snet_node):
    assert k8snet_node.name == "node-1", f"{k8snet_node.name}: is not the first"
"""


def test_waiver(bench: Bench, ways: str) -> None:
    bench.checks(WAIVED)
    bench.write("p.yaml", "waivers:\n  - {check: ACME-*, nodes: [node-2, node-3], reason: ticket 17, expires: 2999-01-01}\n")
    ran = bench.own("--k8snet-profile=p.yaml", ways)
    assert ran.status == 0
    assert ran.verdicts == {"ACME-1[node-1]": "pass", "ACME-1[node-2]": "fail", "ACME-1[node-3]": "fail"}
    waived = ran.cases["ACME-1[node-2]"]
    assert waived.outcome == "skipped"
    assert waived.properties["k8snet_waived"] == "ticket 17 (until 2999-01-01, profile p.yaml:2)"
    assert ran.line("WAIVED ACME-1[node-2]") == (
        "WAIVED ACME-1[node-2] (fail) - node-2: is not the first [ticket 17 (until 2999-01-01, profile p.yaml:2)]"
    )
    assert ran.line("verdicts:") == "verdicts: 1 pass, 2 fail (of these 2 waived or allowed)"
    assert re.search(r"1 passed, (\d+ warnings?, )?2 waived in", ran.out)


def test_waivers_that_need_a_look(bench: Bench, ways: str) -> None:
    bench.checks(WAIVED)
    # The bench cannot know the day: the clock that counts is that of the run.
    soon = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=7)
    bench.write(
        "p.yaml",
        f"""
waivers:
  - {{check: ACME-1, nodes: [node-2], reason: ticket 17, expires: {soon}}}
  - {{check: ACME-1, nodes: [node-3], reason: ticket 18, expires: 2999-01-01}}
  - {{check: ACME-1, nodes: [node-1], reason: ticket 19, expires: 2999-01-01}}
  - {{check: ACME-2, reason: ticket 20, expires: 2999-01-01}}
  - {{check: "*", nodes: [gone], reason: ticket 21, expires: 2999-01-01}}
  - {{check: ACME-1, nodes: [node-1], reason: ticket 22, expires: 2020-01-01}}
""",
    )
    ran = bench.own("--k8snet-profile=p.yaml", ways)
    assert ran.status == 0
    lines = ran.lines("waiver of ")
    assert re.fullmatch(rf"waiver of ACME-1 \(profile p\.yaml:3\) ends in [67] days, on {soon}: ticket 17", lines[0])
    assert lines[1:] == [
        "waiver of ACME-1 (profile p.yaml:5) was not needed: all that it covers in this run is as expected",
        "waiver of ACME-2 (profile p.yaml:6) is of no check that this run has",
        "waiver of * (profile p.yaml:7) is of no node of this cluster: gone",
        "waiver of ACME-1 (profile p.yaml:8) ended on 2020-01-01: it excuses nothing any more; remove or renew it: ticket 22",
    ]


def test_expired_waiver(bench: Bench) -> None:
    bench.checks(WAIVED)
    bench.write("p.yaml", "waivers:\n  - {check: ACME-1, reason: ticket 17, expires: 2020-02-02}\n")
    ran = bench.own("--k8snet-profile=p.yaml")
    assert ran.status == 1
    assert ran.cases["ACME-1[node-2]"].outcome == "failure"
    assert "    its waiver has expired on 2020-02-02 (profile p.yaml:2): ticket 17" in ran.out.splitlines()


SUBTESTS = """
@check("ACME-1")
def test_it(k8snet_node, k8snet_verdict, subtests):
    for number in (1, 2, 3):
        with subtests.test(number=number):
            judgement = Judgement(want=f"node-{number} (built-in)")
            judgement.check(k8snet_node.name != "node-2" or number == 3, f"number {number} does not hold", command=f"ask {number}")
            if k8snet_node.name == "node-3" and number == 2:
                pytest.skip("two is not for it")
            k8snet_verdict(judgement)
"""


def test_subtests(bench: Bench, ways: str) -> None:
    bench.checks(SUBTESTS)
    ran = bench.own(ways)
    assert ran.status == 1
    assert ran.verdicts == {"ACME-1[node-1]": "pass", "ACME-1[node-2]": "fail", "ACME-1[node-3]": "pass"}
    assert ran.line("FAILED ACME-1[node-2]") == "FAILED ACME-1[node-2] - number 1 does not hold (ask 1)"
    case = ran.cases["ACME-1[node-2]"]
    assert case.outcome == "failure"
    assert case.properties["k8snet_message"] == "number 1 does not hold (ask 1)"
    assert (case.properties["k8snet_wanted"], case.properties["k8snet_command"]) == ("node-1 (built-in)", "ask 1")
    assert bench.record("run.json")["results"]["cases"]["ACME-1[node-2]"]["verdict"] == "fail"


def test_subtests_that_are_waived(bench: Bench, ways: str) -> None:
    bench.checks(SUBTESTS)
    bench.write("p.yaml", "waivers:\n  - {check: ACME-*, nodes: [node-2], reason: ticket 17, expires: 2999-01-01}\n")
    ran = bench.own("--k8snet-profile=p.yaml", ways)
    assert ran.status == 0
    assert ran.verdicts == {"ACME-1[node-1]": "pass", "ACME-1[node-2]": "fail", "ACME-1[node-3]": "pass"}
    assert ran.cases["ACME-1[node-2]"].outcome == "skipped"
    assert ran.line("WAIVED ACME-1[node-2]").startswith("WAIVED ACME-1[node-2] (fail) - number 1 does not hold (ask 1) [ticket 17")
    assert not ran.lines("waiver of ")


def test_subtests_with_plain_assertions(bench: Bench, ways: str) -> None:
    bench.checks("""
        @check("ACME-1")
        def test_it(k8snet_node, subtests):
            with subtests.test():
                raise MeasurementError("no answer")
            for number in (1, 2):
                with subtests.test(number=number):
                    assert number == 2, "is not two"
    """)
    ran = bench.own(ways)
    assert ran.status == 1
    assert set(ran.verdicts.values()) == {"error"}
    assert ran.line("ERROR ACME-1[node-1] and 2 more - ") == "ERROR ACME-1[node-1] and 2 more - no answer"


@pytest.mark.parametrize("allowed", [True, False])
def test_allow_inconclusive(bench: Bench, allowed: bool) -> None:
    bench.checks(FIVE)
    ran = bench.own("-k", "INCONCLUSIVE or PASS", *(["--k8snet-allow-inconclusive"] if allowed else []))
    case = ran.cases["ACME-INCONCLUSIVE[cluster]"]
    assert case.verdict == "inconclusive"
    assert (ran.status, case.outcome) == ((0, "skipped") if allowed else (1, "error"))
    if allowed:
        assert ran.line("ALLOWED").endswith(
            "(inconclusive) - node-1: the baseline is too noisy (iperf3 -c node-2) [--k8snet-allow-inconclusive]"
        )


def test_strict(bench: Bench) -> None:
    bench.checks("""
        @check("ACME-1")
        def test_skipped(k8snet_cluster):
            pytest.skip("no time")

        @check("ACME-2")
        def test_does_not_apply(k8snet_cluster, k8snet_verdict):
            k8snet_verdict(Judgement.skipped("no tunnel is expected"))

        @pytest.mark.k8snet_requires(proxy_mode="nftables")
        @check("ACME-3")
        def test_requires(k8snet_cluster):
            pass

        @check("ACME-4")
        def test_judged(k8snet_cluster):
            pass
    """)
    assert bench.own().status == 0
    ran = bench.own("--k8snet-strict")
    assert ran.status == 1
    assert {name: case.outcome for name, case in ran.cases.items()} == {
        "ACME-1[cluster]": "failure",
        "ACME-2[cluster]": "skipped",
        "ACME-3[cluster]": "skipped",
        "ACME-4[cluster]": "passed",
    }
    assert ran.line("FAILED ACME-1") == "FAILED ACME-1[cluster] - skipped: no time"


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        ("proxy_mode='ipvs', encapsulation='none', nodes=3", None),
        (
            "proxy_mode='nftables'",
            "for proxy mode nftables only; here it is ipvs (claim ConfigMap kube-system/kube-proxy config.conf mode)",
        ),
        ("encapsulation='vxlan'", "for encapsulation vxlan only; here it is none (claim ConfigMap kube-system/fake-network)"),
        ("nodes=4", "takes 4 nodes; there are 3"),
    ],
    ids=["met", "proxy-mode", "encapsulation", "nodes"],
)
def test_requires(bench: Bench, requires: str, reason: str | None) -> None:
    bench.checks(f"""
        @pytest.mark.k8snet_requires({requires})
        @check("ACME-1")
        def test_it(k8snet_cluster):
            pass
    """)
    ran = bench.own()
    case = ran.cases["ACME-1[cluster]"]
    assert (case.verdict, case.properties.get("k8snet_message")) == ("pass" if reason is None else "skip", reason)
    assert ran.status == (0 if reason is None else 5)


def test_unknown_requirement(bench: Bench) -> None:
    bench.checks("@pytest.mark.k8snet_requires(cni='x')\n@check('ACME-1')\ndef test_it(k8snet_cluster): pass")
    ran = bench.own()
    assert ran.status == 1
    assert ran.line("ERROR ACME-1") == (
        "ERROR ACME-1[cluster] - @pytest.mark.k8snet_requires: got ['cni'], want proxy_mode=, encapsulation= or nodes="
    )
