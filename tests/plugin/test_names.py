"""Node names that an API server never gives, unless it is broken or means ill: nothing breaks, and the message names the node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_k8snet.shown import printable
from tests.plugin.bench import Bench

LONG = ".".join(["node-" + "a" * 57] * 4)[:253]
HOSTILE = (
    "../../x",
    "..",
    ".",
    "a/b",
    "/etc/passwd",
    "knoten-ä",
    "n" * 300,
    LONG,
    LONG[:-1] + "b",
    "a\nFAILED b",
    "%2E%2E",
    "con:8",
    "a;rm -rf /",
    "$(reboot)",
    "%s%n",
    "{}",
    "{0.__class__}",
    "[x]",
    "x]",
    "a::b",
    "fe80::1",
    "Node",
    "node",
    "\x1b]0;title\x07\x1b[31mred",
    "safe\u202egnp",
    "*",
    "a b",
    "'\"&<>",
    "-k",
    "db-token",
)
RED = """
@check("ACME-1")
def test_it(k8snet_node): assert k8snet_node.facts.kernel

@check("ACME-2")
def test_red(k8snet_node, k8snet_verdict):
    judgement = Judgement(want="x")
    judgement.check(False, f"{k8snet_node.name}: eth0 MTU 1450, want 1500")
    k8snet_verdict(judgement)

@check("ACME-3")
def test_skip(k8snet_node): pytest.skip(f"{k8snet_node.name}: does not apply")

@check("ACME-4")
def test_bug(k8snet_node): raise ValueError(k8snet_node.name)

@check("ACME-5", level="load")
def test_pair(k8snet_pair, k8snet_measure):
    document = k8snet_measure("throughput")
    assert (document.values["source"], document.values["target"]) == (k8snet_pair.source.name, k8snet_pair.target.name)
"""


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_hostile_names(bench: Bench, way: str) -> None:
    bench.cluster("fake.fail_probe('a b', 'a b: pod x\\x1b[5m: refused')", nodes=HOSTILE)
    bench.checks(RED)
    around = bench.path.parent
    before = tree(around)
    ran = bench.own(way, "-v", "--k8snet-load-pairs=ring", own_process=True)
    assert ran.status == 1, ran.out
    assert "INTERNALERROR" not in ran.out
    # Nothing is written outside the run folder and what pytest was told to write.
    folder = bench.run_folder()
    made = {name for name in tree(around) - before if folder not in (around / name).parents and (around / name) != folder}
    prefix = bench.path.name
    assert {name for name in made if not name.startswith((f"{prefix}/__pycache__", f"{prefix}/runpytest", f"{prefix}/std"))} <= {
        f"{prefix}/{name}" for name in (".k8snet", ".k8snet/.gitignore", "junit.xml", "objects.txt", "requests.txt")
    }
    # No two nodes or pairs share a file, also where A is a.
    for kind, subjects in (("facts", set(HOSTILE)), ("throughput", None)):
        files = sorted((folder / kind).iterdir())
        assert len({path.name.lower() for path in files}) == len(HOSTILE)
        assert subjects is None or {json.loads(path.read_text())["subject"] for path in files} == subjects
    # The terminal obeys nothing, and every node is named in a line of its own.
    assert not any(char in ran.out for char in ("\x1b]", "\x07", "\u202e", "\x9b"))
    assert "\nFAILED b" not in ran.out
    for name in HOSTILE:
        assert ran.cases[f"ACME-1[{printable(name)}]"].outcome == ("error" if name == "a b" else "passed")
        readable = f"ACME-2[{printable(name)}] - {printable(name)}: eth0 MTU 1450, want 1500"
        assert f"FAILED {readable}" in ran.out
        assert ran.cases[f"ACME-2[{printable(name)}]"].text.startswith(f"{printable(name)}: eth0 MTU 1450, want 1500")
    assert "missing: a b: pod x\\x1b[5m: refused" in ran.out
    pairs = {name: case for name, case in ran.cases.items() if name.startswith("ACME-5")}
    assert len(pairs) == len(HOSTILE)
    assert {case.outcome for name, case in pairs.items() if "a b" not in name} == {"passed"}
    assert "ACME-5[con%3A8:fe80%3A%3A1]" in pairs or any("fe80%3A%3A1:" in name for name in pairs)


def test_skipped_on_all_of_them(bench: Bench) -> None:
    bench.cluster(nodes=("{}", "a{}", "\x1b[31m"))
    bench.checks("@check('ACME-3')\ndef test_skip(k8snet_node): pytest.skip(f'{k8snet_node.name}: {{}} does not apply')")
    ran = bench.own()
    assert "SKIPPED ACME-3[\\x1b[31m, a{}] - ...: {} does not apply" in ran.out
    assert "SKIPPED ACME-3[{}] - {}: {} does not apply" in ran.out


@pytest.mark.parametrize("name", ["node-1.example.com", "%s", "knoten"])
def test_cases_are_chosen_by_their_node(bench: Bench, name: str) -> None:
    bench.cluster(nodes=("node-1.example.com", "%s", "knoten", "other"))
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    ran = bench.own("-k", name) if name != "%s" else bench.own(f"--k8snet-nodes={name}")
    assert [*ran.cases] == [f"ACME-1[{name}]"]
    assert ran.status == 0


def test_allow_missing_and_waivers_with_pairs_of_such_names(bench: Bench) -> None:
    bench.cluster("fake.fail_probe('fe80::1', 'fe80::1: gone')", nodes=("fe80::1", "node-2"))
    bench.checks("""
        @check("ACME-1", level="load")
        def test_it(k8snet_measure, k8snet_pair):
            if (document := k8snet_measure("throughput")).values is None:
                raise MeasurementError(document.reason)
    """)
    ran = bench.own("--k8snet-allow-missing=1")
    assert {name.partition("[")[2] for name in ran.cases} == {"node-2:fe80%3A%3A1]", "fe80%3A%3A1:node-2]"}
    assert {case.outcome for case in ran.cases.values()} == {"skipped"}
    assert "nothing was proved" in ran.out
    assert ran.status == 5, ran.out
