"""Cases of the suite are items of our own; who adds to them what only a test function has gets test functions."""

from __future__ import annotations

import pytest

from pytest_k8snet.run import KEPT
from tests.plugin.bench import Bench

MTU = ("--k8snet-profile=flat-l2", "--k8snet-checks=NET-MTU-001")


def collected(bench: Bench, *arguments: str) -> str:
    return bench.run("--collect-only", *MTU, *arguments).out


def test_cases_are_light(bench: Bench) -> None:
    out = collected(bench)
    assert out.count("<CheckItem test_pod_mtu[node-") == 3
    assert "<Function" not in out


AUTOUSE = """
@pytest.fixture(autouse=True)
def noted():
    note("noted.txt", "around")
"""

OVERRIDDEN = """
@pytest.fixture
def k8snet_expect(k8snet_expect, k8snet_node):
    note("noted.txt", k8snet_node.name)
    return k8snet_expect
"""


@pytest.mark.parametrize(
    ("more", "noted"), [(AUTOUSE, ["around"] * 3), (OVERRIDDEN, ["node-1", "node-2", "node-3"])], ids=["autouse", "overridden"]
)
def test_a_fixture_of_the_user_s_makes_them_functions(bench: Bench, more: str, noted: list[str]) -> None:
    conftest = (bench.path / "conftest.py").read_text()
    bench.write("conftest.py", f"import pytest\n{conftest}\n{more}")
    assert "<CheckItem" not in collected(bench)
    ran = bench.run(*MTU)
    assert set(ran.verdicts.values()) == {"pass"}
    assert bench.noted("noted.txt") == noted


def test_a_case_is_marked_alone(bench: Bench) -> None:
    conftest = (bench.path / "conftest.py").read_text()
    mark = "item.add_marker(pytest.mark.skip(reason='moved')) if item.name.endswith('[node-2]') else None"
    bench.write("conftest.py", f"import pytest\n{conftest}\ndef pytest_collection_modifyitems(items):\n    [{mark} for item in items]\n")
    ran = bench.run(*MTU)
    assert ran.verdicts == {"NET-MTU-001[node-1]": "pass", "NET-MTU-001[node-2]": "skip", "NET-MTU-001[node-3]": "pass"}
    assert ran.cases["NET-MTU-001[node-2]"].properties["k8snet_message"] == "moved"


@pytest.mark.parametrize(
    ("expression", "found"),
    [("NET-MTU-001 and node-2", ["NET-MTU-001[node-2]"]), ("test_pod_mtu and not node-2", ["NET-MTU-001[node-1]", "NET-MTU-001[node-3]"])],
)
def test_they_are_found_by_id_subject_and_function(bench: Bench, expression: str, found: list[str]) -> None:
    assert sorted(bench.run("-k", expression, "--k8snet-profile=flat-l2").cases) == found


def test_the_ones_that_failed_last_are_run_again_alone(bench: Bench) -> None:
    bench.cluster("fake.change_facts('node-2', lambda facts: facts['routes'][0].update(metrics=[{'mtu': 1400}]), role='pod')")
    cached = (*MTU, "-p", "cacheprovider")
    assert bench.run(*cached).verdicts == {"NET-MTU-001[node-1]": "pass", "NET-MTU-001[node-2]": "fail", "NET-MTU-001[node-3]": "pass"}
    bench.cluster()
    ran = bench.run(*cached, "--lf")
    assert ran.verdicts == {"NET-MTU-001[node-2]": "pass"}
    assert "2 cases left out by -k, -m or --deselect" in ran.out
    assert len(bench.run(*cached, "--lf").cases) == 3, "none that has failed is left"


def test_cases_of_a_few_nodes_come_one_after_the_other_check_by_check(bench: Bench) -> None:
    """So the facts of each node are read once, and the modules of checks set up once for these nodes."""
    names = tuple(f"node-{number:02}" for number in range(1, KEPT + 4))
    bench.cluster(nodes=names)
    ran = bench.run("--k8snet-profile=flat-l2", "--k8snet-checks=NET-MTU-*")
    cases = [(name[:11], name.partition("[")[2].rstrip("]")) for name in ran.cases]
    checks = sorted({check for check, _ in cases})
    together = (names[:KEPT], names[KEPT:])
    # JUnit has them by their names, the terminal as they ran.
    assert sorted(cases) == sorted((check, node) for check in checks for node in names)
    shown = [line for line in ran.out.splitlines() if "test_pod_mtu.py" in line]
    assert [len(line.split()[1]) for line in shown] == [len(nodes) for nodes in together]


def test_what_may_break_others_connections_comes_behind_all_else(bench: Bench) -> None:
    out = bench.run("--collect-only", "-q", "--pyargs", "pytest_k8snet.conformance").out
    modules = [line.partition("[")[0].rpartition("/")[2] for line in out.splitlines() if "::" in line]
    late = ("test_spread.py::test_spread", "test_enforced.py::test_enforced")
    assert [name for name in dict.fromkeys(modules) if name in ("test_pod_against_host.py::test_pod_against_host", *late)][-2:] == [*late]
    assert modules[-1] == late[1]


def test_a_mistake_in_a_judge_is_shown_where_it_is(bench: Bench) -> None:
    """An exception that is no verdict: the traceback begins in the check and has the lines of the judge."""
    broken = "from pytest_k8snet.judge import mtu\nmtu.pod_mtu = lambda *arguments: 1 / 0\n"
    conftest = (bench.path / "conftest.py").read_text()
    bench.write("conftest.py", conftest + broken)
    ran = bench.run(*MTU, own_process=True)
    assert set(ran.verdicts.values()) == {"error"}
    assert ran.cases["NET-MTU-001[node-1]"].properties["k8snet_message"] == "ZeroDivisionError: division by zero"
    assert ">       verdict(mtu.pod_mtu(node.facts, expect.mtu, expect.encapsulation" in ran.out
    assert "pluggy/_" not in ran.out


def test_without_an_inventory_the_reason_is_told(bench: Bench) -> None:
    bench.cluster("fake.read_error = ClusterError('the API server is on fire')")
    ran = bench.run(*MTU)
    assert ran.status == 1
    assert "the API server is on fire" in ran.out
