"""A run is green only when everything that was to be checked was checked and held."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench, Case

TWO = """
@check("ACME-1")
def test_one(k8snet_node):
    {one}

@check("ACME-2", level="{level}")
def test_two(k8snet_node):
    pass
"""


def two(one: str = "pass", level: str = "read") -> str:
    return TWO.replace("{one}", one).replace("{level}", level)


def test_a_lost_result_is_never_green(bench: Bench) -> None:
    bench.cluster(nodes=("node-1",))
    # xdist cannot send such a property: the result vanishes, and pytest alone would exit 0.
    bench.checks("""
        @check("ACME-1")
        def test_one(request, k8snet_node):
            request.node.user_properties.append(("x", object()))

        @check("ACME-2")
        def test_two(k8snet_node):
            pass
    """)
    ran = bench.own("-n2")
    assert ran.status not in (0, 5)
    # xdist may break off altogether, before or after the other case; pytest then writes no summary.
    assert "ACME-1[node-1]" in bench.record("run.json")["results"]["lost"]
    assert "INTERNALERROR" in ran.out or "NO RESULT ACME-1[node-1] - it was collected and never ended" in ran.out
    if "INTERNALERROR" not in ran.out:
        assert "no result: it was collected and never ended" in ran.cases["ACME-1[node-1]"].text


@pytest.mark.parametrize(
    ("end", "status", "why"),
    [
        ("pytest.exit('enough', returncode=0)", 1, "no result: it was collected and never ended"),
        ("raise KeyboardInterrupt", 2, "not run: interrupted"),
        ("request.session.shouldstop = 'no time left'", 2, "not run: no time left"),
    ],
    ids=["exit", "interrupted", "stopped"],
)
@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_cases_without_a_result_are_errors_in_junit(bench: Bench, end: str, status: int, why: str, way: str) -> None:
    bench.checks(f"""
        @check("ACME-1")
        def test_one(request, k8snet_node):
            if k8snet_node.name == "node-2":
                {end}
    """)
    ran = bench.own(way, own_process=True)
    assert ran.status == status if way == "-pno:xdist" else ran.status != 0
    judged = {name for name, case in ran.cases.items() if case.verdict is not None}
    lost = {name: case for name, case in ran.cases.items() if case.verdict is None and name != "internal"}  # xdist's own error
    assert judged | {*lost} == {f"ACME-1[node-{number}]" for number in (1, 2, 3)}
    assert {(case.classname, case.outcome) for case in lost.values()} <= {("k8snet.test_own", "error")}
    if way == "-pno:xdist":
        assert lost
        assert all(case.text.startswith(f'failed on setup with "{why}"') for case in lost.values())
        assert {case.properties["k8snet_message"] for case in lost.values()} == {why}


@pytest.mark.parametrize("death", ["os._exit(3)", "os.kill(os.getpid(), 9)"], ids=["exit", "killed"])
def test_a_dead_worker_is_an_error_of_its_case(bench: Bench, death: str) -> None:
    bench.checks("import os\n" + two(f"if k8snet_node.name == 'node-2': {death}"))
    ran = bench.own("-n2")
    assert ran.status == 1
    case = ran.cases["ACME-1[node-2]"]
    assert (case.classname, case.outcome, case.verdict) == ("k8snet.test_own", "error", "error")
    assert "crashed while running" in case.text
    assert "crashed while running" in ran.line("ERROR ACME-1[node-2] - worker")
    assert [verdict for name, verdict in sorted(ran.verdicts.items()) if name != "ACME-1[node-2]"] == ["pass"] * 5
    bench.assert_removed()


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_what_x_leaves_is_counted_and_red(bench: Bench, way: str) -> None:
    bench.checks(two("assert k8snet_node.name != 'node-1', 'first'"))
    ran = bench.own("-x", way)
    assert ran.status in (1, 2)  # xdist's own for a session that it stops
    assert ran.line("FAILED ACME-1[node-1]") == "FAILED ACME-1[node-1] - first"
    assert "stopping after 1 failures: " in ran.line("NOT RUN ")
    assert "NO RESULT" not in ran.out
    assert all(case.verdict is not None for case in ran.cases.values()), "the failure that stops the run is in there"
    left = 6 - len(ran.cases)
    assert ran.line("NOT RUN").startswith(f"NOT RUN {left} case")


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_nothing_collected(bench: Bench, way: str) -> None:
    ran = bench.own(way)
    assert ran.status == 5
    assert "no check was collected: nothing was proved" in ran.out
    assert ran.line("verdicts:") == "verdicts: none"


def test_only_tests_that_are_no_checks(bench: Bench) -> None:
    bench.write("test_plain.py", "def test_it(): pass\n")
    ran = bench.own()
    assert ran.status == 5
    assert "no check was collected: nothing was proved" in ran.out


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_everything_left_out(bench: Bench, way: str) -> None:
    bench.checks(two())
    ran = bench.own("--k8snet-checks=NET-*", way)
    assert ran.status == 5
    assert ran.line("6 cases") == "6 cases left out by --k8snet-checks"


@pytest.mark.parametrize(
    ("arguments", "left_out", "run"),
    [
        (["-n2", "-k", "ACME-1"], "3 cases left out by -k, -m or --deselect", {"ACME-1"}),
        (["-n2", "--k8snet-level=read"], "3 cases left out by --k8snet-level=read", {"ACME-1"}),
        (["-k", "ACME-1"], "3 cases left out by -k, -m or --deselect", {"ACME-1"}),
        (["--k8snet-checks", "ACME-2,NET-*"], "3 cases left out by --k8snet-checks", {"ACME-2"}),
        (["--k8snet-level=read"], "3 cases left out by --k8snet-level=read", {"ACME-1"}),
        (["--deselect=test_own.py::test_one[node-1]"], "1 case left out by -k, -m or --deselect", {"ACME-1", "ACME-2"}),
    ],
    ids=["xdist-k", "xdist-level", "k", "checks", "level", "deselect"],
)
def test_what_is_left_out_is_counted(bench: Bench, arguments: list[str], left_out: str, run: set[str]) -> None:
    bench.checks(two(level="probe"))
    ran = bench.own(*arguments)
    assert ran.status == 0
    assert ran.lines(left_out.split(" left", maxsplit=1)[0]) == [left_out]
    assert {case.properties["k8snet_check"] for case in ran.cases.values()} == run


def test_no_node(bench: Bench) -> None:
    bench.cluster(nodes=())
    ran = bench.run()
    assert ran.status == 1
    assert ran.verdicts["NET-MTU-001[(none)]"] == "error"
    assert "no node to judge this on: the cluster has none" in ran.out


def test_no_node_that_is_measured(bench: Bench) -> None:
    bench.cluster(
        "fake.exclude('node-1', 'is EKS Fargate (label x=y)')\nfake.exclude('node-2', 'is a virtual kubelet')", nodes=("node-1", "node-2")
    )
    ran = bench.run()
    assert ran.status == 1
    assert ran.line("k8snet: left out: ") == "k8snet: left out: node-1 (is EKS Fargate (label x=y)), node-2 (is a virtual kubelet)"
    assert "no node to judge this on: all nodes are left out: node-1 (is EKS Fargate (label x=y)), node-2 (is a virtual kubelet)" in ran.out


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_all_skipped(bench: Bench, way: str) -> None:
    bench.checks("""
        @check("ACME-1")
        def test_one(k8snet_node):
            pytest.skip("not today")

        @check("ACME-2")
        @pytest.mark.k8snet_requires(nodes=99)
        def test_two(k8snet_cluster):
            pass
    """)
    ran = bench.own(way)
    assert ran.status == 5
    assert set(ran.verdicts.values()) == {"skip"}
    assert (
        ran.line("not one check")
        == "not one check could be judged: all were skipped or inconclusive, or could not be measured: nothing was proved"
    )


def test_nothing_but_errors_that_are_allowed(bench: Bench) -> None:
    bench.cluster("".join(f"fake.not_ready('node-{number}', 'KubeletNotReady: cni')\n" for number in (1, 2, 3)))
    bench.checks(READS)
    ran = bench.own("--k8snet-allow-missing=100%")
    assert ran.status == 5
    assert set(ran.verdicts.values()) == {"error"}
    assert len(ran.lines("ALLOWED ")) == 3
    assert ran.line("not one check").endswith("nothing was proved")


def test_nothing_but_what_is_inconclusive_and_allowed(bench: Bench) -> None:
    bench.checks("""
        @check("ACME-1")
        def test_one(k8snet_node, k8snet_verdict):
            judgement = Judgement()
            judgement.inconclusive(f"{k8snet_node.name}: no answer to compare with")
            k8snet_verdict(judgement)
    """)
    ran = bench.own("--k8snet-allow-inconclusive")
    assert ran.status == 5
    assert len(ran.lines("ALLOWED ")) == 3
    assert ran.line("not one check").endswith("nothing was proved")


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_what_a_conftest_leaves_out_without_a_word_is_counted(bench: Bench, way: str) -> None:
    conftest = (bench.path / "conftest.py").read_text()
    bench.write("conftest.py", f"{conftest}\ndef pytest_collection_modifyitems(items):\n    items[:] = items[:1] + items[-2:]\n")
    bench.checks(two())
    bench.write("test_plain.py", "def test_it(): pass\n")
    ran = bench.own(way, "-k", "not node-1")
    assert ran.status == 0
    assert ran.line("1 case left") == "1 case left out by -k, -m or --deselect"
    assert ran.line("4 cases left") == "4 cases left out by a conftest.py or a plugin (pytest_collection_modifyitems)"
    assert len(ran.cases) == 2


def test_one_that_is_judged_is_enough(bench: Bench) -> None:
    bench.checks("""
        @check("ACME-1")
        def test_one(k8snet_node):
            if k8snet_node.name != "node-2":
                pytest.skip("not today")
    """)
    assert bench.own().status == 0


def test_skipped_checks_beside_other_tests_of_a_project(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8SNET_ACCESS", "fake")
    bench.checks("@check('ACME-1')\ndef test_one(k8snet_node): pytest.skip('not today')\n\ndef test_plain(): pass")
    assert bench.run(fake=False).status == 0  # nobody has asked for a cluster to be tested


def test_one_node_has_no_pairs(bench: Bench) -> None:
    bench.cluster(nodes=("node-1",))
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_pair): pass")
    ran = bench.own()
    assert ran.status == 1
    assert "no pair to judge this on: it takes two ready nodes" in ran.line("ERROR ACME-1[(none)]")


def test_pairs(bench: Bench) -> None:
    bench.checks("""
        @check("ACME-1")
        def test_ring(k8snet_pair):
            assert k8snet_pair.name == f"{k8snet_pair.source.name}:{k8snet_pair.target.name}"

        @check("ACME-2", level="load")
        def test_load(k8snet_pair):
            pass
    """)
    ran = bench.own("--k8snet-pairs=ring", "--k8snet-load-pairs=sample:1")
    assert set(ran.cases) == {"ACME-1[node-1:node-2]", "ACME-1[node-2:node-3]", "ACME-1[node-3:node-1]", "ACME-2[node-1:node-2]"}
    assert ran.status == 0
    assert ran.line("k8snet: load:") == (
        "k8snet: load: 1 pair of nodes, one at a time, 3 takes of 4 s (up to 7 if they disagree); "
        "the line rate is not known, at 10 Gbit/s it would be 75 GB"
    )


NODES_FAIL = """
fake.not_ready("node-2", "KubeletNotReady: cni plugin not initialized")
fake.fail_probe("node-3", "node-3: pod k8snet-x/host-node-3: ErrImagePull: no such image")
"""
READS = """
@check("ACME-1")
def test_it(k8snet_node):
    assert k8snet_node.sysctl("net.ipv4.ip_forward") == "1"
"""


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_nodes_that_cannot_be_measured(bench: Bench, way: str) -> None:
    bench.cluster(NODES_FAIL)
    bench.checks(READS)
    ran = bench.own(way)
    assert ran.status == 1
    assert ran.verdicts == {"ACME-1[node-1]": "pass", "ACME-1[node-2]": "error", "ACME-1[node-3]": "error"}
    assert ran.cases["ACME-1[node-2]"].outcome == "error"
    assert ran.line("ERROR ACME-1[node-2] -") == (
        "ERROR ACME-1[node-2] - node-2: no facts: the node is NotReady: KubeletNotReady: cni plugin not initialized"
    )
    assert ran.line("ERROR ACME-1[node-3] -") == (
        "ERROR ACME-1[node-3] - node-3: no facts: pod k8snet-x/host-node-3: ErrImagePull: no such image"
    )
    assert ran.line("k8snet: node-2") == "k8snet: node-2 cannot be measured: NotReady: KubeletNotReady: cni plugin not initialized"
    assert ran.lines("missing:") == [
        "missing: node-2: NotReady: KubeletNotReady: cni plugin not initialized",
        "missing: node-3: pod k8snet-x/host-node-3: ErrImagePull: no such image",
    ]


def test_the_suite_with_nodes_that_cannot_be_measured(bench: Bench) -> None:
    bench.cluster(NODES_FAIL)
    ran = bench.run()
    assert ran.status == 1
    by_node: dict[str, set[str | None]] = {}
    for case in ran.cases.values():
        if case.properties["k8snet_check"] not in ("NET-NODE-005", "NET-POLICY-001"):  # which the API server's objects answer
            by_node.setdefault(case.properties["k8snet_subject"], set()).add(case.verdict)
    assert by_node["node-1"] <= {"pass", "skip"}
    assert by_node["node-2"] == by_node["node-3"] == {"error"}
    # One line for one reason, whatever the number of checks.
    assert len(ran.lines("ERROR NET-ABSENCE-001[node-2] and ")) == 1
    assert "no facts: the node is NotReady" in ran.lines("ERROR NET-ABSENCE-001[node-2] and ")[0]


@pytest.mark.parametrize(("allowed", "status"), [("0", 1), ("1", 1), ("2", 0), ("50%", 1), ("67%", 0)])
def test_allow_missing(bench: Bench, allowed: str, status: int) -> None:
    bench.cluster(NODES_FAIL)
    bench.checks(READS)
    ran = bench.own(f"--k8snet-allow-missing={allowed}")
    assert ran.status == status
    assert ran.verdicts["ACME-1[node-2]"] == "error"
    if status == 0:
        assert ran.cases["ACME-1[node-2]"].outcome == "skipped"
        assert "2 missing, " in ran.line("ALLOWED ACME-1[node-2] (error)")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 1),
        (["-n2"], 1),
        (["--k8snet-allow-missing=1"], 0),
        (["--k8snet-nodes=node-1,node-3"], 0),
        (["-k", "ACME-1"], 0),
        (["--k8snet-checks=ACME-2"], 0),
    ],
    ids=["none", "none-xdist", "one", "not-chosen", "by-name", "cluster-alone"],
)
def test_pairs_are_of_ready_nodes_alone_and_the_others_are_not_forgotten(bench: Bench, arguments: list[str], status: int) -> None:
    bench.cluster('fake.not_ready("node-2", "KubeletNotReady: cni")')
    bench.checks("""
        @check("ACME-1", level="load")
        def test_pair(k8snet_pair):
            pass

        @check("ACME-2")
        def test_cluster(k8snet_cluster):
            pass
    """)
    ran = bench.own("--k8snet-load-pairs=all", *arguments)
    assert ran.status == status
    assert set(ran.verdicts.values()) == {"pass"}
    words = ["more nodes are missing than --k8snet-allow-missing accepts (0), and no pair was judged with node-2"]
    assert ran.lines("more nodes") == words * status


def test_no_probe_at_all(bench: Bench) -> None:
    bench.cluster(
        "from pytest_k8snet.errors import ProbeError\nfake.start_error = ProbeError('namespace k8snet-x: forbidden: user may not')"
    )
    bench.checks(READS)
    ran = bench.own()
    assert ran.status == 1
    assert set(ran.verdicts.values()) == {"error"}
    assert "namespace k8snet-x: forbidden: user may not" in ran.out


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_api_that_does_not_answer(bench: Bench, way: str) -> None:
    bench.cluster("fake.read_error = ClusterError('https://10.0.0.1:6443: no connection')")
    bench.checks(READS)
    ran = bench.own(way)
    assert ran.status == 1
    assert "k8snet: https://10.0.0.1:6443: no connection" in ran.out
    assert "Traceback" not in ran.out
    assert bench.objects() == []


@pytest.mark.parametrize("end", ["no-cluster", "no-kubeconfig"])
def test_no_report_of_an_earlier_run_is_left_by_one_that_has_none(bench: Bench, end: str) -> None:
    bench.cluster("fake.read_error = ClusterError('no connection')")
    report = bench.write("reports/earlier.xml", "<testsuites/>")
    arguments = [f"--junitxml={report}", *([] if end == "no-cluster" else ["--k8snet-access=pod", "--k8snet-kubeconfig=none"])]
    assert bench.own(*arguments).status in (1, 4)
    assert not report.exists()


def test_reports_of_other_sessions_are_pytest_s_affair(bench: Bench) -> None:
    """Without a cluster to test nothing is touched: here pytest ends by a usage error."""
    report = bench.write("reports/earlier.xml", "<testsuites/>")
    assert bench.run(f"--junitxml={report}", "nothing-there", fake=False).status == 4
    assert report.exists()


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_rights_that_are_missing_are_told_once_and_nothing_is_made(bench: Bench, way: str) -> None:
    message = "the identity of kubeconfig x lacks: list nodes. `k8snet manifests rbac --level load` prints a role"
    bench.cluster(f"fake.lacking_rights = {message!r}")
    bench.checks(READS)
    ran = bench.own(way)
    assert ran.status == 1
    assert ran.line("Exit: ") == f"Exit: k8snet: {message}"
    assert "Traceback" not in ran.out
    assert bench.objects() == []


def test_collection_error_is_red(bench: Bench) -> None:
    bench.checks("import nonsense_that_is_not_there\n" + two())
    ran = bench.own()
    assert ran.status == 2
    bench.assert_removed()


#: Evidence that holds times that were really measured: until a change of endpoints was noticed, until the API server had answered.
TIMED = ("NET-CONTROL-009", "NET-SERVICE-006")


def without_times(case: Case) -> dict[str, str]:
    """Return the properties of a case without times that are different in every run."""
    timed = case.properties["k8snet_check"] in TIMED
    return {name: text for name, text in case.properties.items() if not (timed and name == "k8snet_evidence")}


def test_results_of_the_suite_do_not_depend_on_the_way(bench: Bench) -> None:
    bench.cluster("""
        fake.change_facts("node-2", lambda facts: facts["kube_proxy"].update(mode="iptables"))
        fake.change_facts("node-1", lambda facts: facts["routes"][0].update(metrics=[{"mtu": 1400}]), role="pod")
        fake.answer("node-3", "ipvs", AccessError("node-3: agent died"))
    """)
    told = []
    for way in ("-n2", "-pno:xdist"):
        ran = bench.run("--k8snet-profile=tuned-node", way)
        assert ran.status == 1
        told.append({name: (case.classname, case.outcome, without_times(case)) for name, case in ran.cases.items()})
    assert told[0] == told[1]
    reds = {name for name, (_, outcome, _) in told[0].items() if outcome in ("failure", "error")}
    assert reds >= {"NET-PROXY-001[node-2]", "NET-PROXY-002[cluster]", "NET-MTU-001[node-1]", "NET-PROXY-006[node-3]"}
    assert told[0]["NET-MTU-001[node-1]"][0] == "k8snet.mtu"


@pytest.mark.parametrize("way", ["-n3", "-pno:xdist"])
def test_each_measurement_is_taken_once(bench: Bench, way: str) -> None:
    ran = bench.run(way)
    assert ran.status == 0, ran.out
    requests = bench.requests()
    for node in ("node-1", "node-2", "node-3"):
        assert requests.count(f"{node} host facts") == 1
        assert requests.count(f"{node} pod facts") == 1
        assert requests.count(f"{node} host ipvs") == 1
    takes = [request for request in requests if request.endswith("iperf3_client")]
    assert len(takes) == 4 * (3 + 1) + 1  # pairs, takes, and the one with more streams
    bench.assert_removed()
