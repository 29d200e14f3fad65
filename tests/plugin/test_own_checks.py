"""Checks of a user's own: fixtures, markers, ids."""

from __future__ import annotations

import pytest

from tests.plugin.bench import Bench


def test_fixtures(bench: Bench) -> None:
    bench.cluster("fake.command('node-1', ['cat', '/proc/sys/vm/swappiness'], stdout='60\\n')")
    bench.write("p.yaml", "custom:\n  rack: 12\nmtu: {pod: 1400}\n")
    bench.checks("""
        import json

        @check("ACME-1")
        def test_node(k8snet_node, k8snet_cluster, k8snet_expect):
            assert k8snet_node.node in k8snet_cluster.nodes
            assert k8snet_node.interface("eth0").mtu == 1500
            assert k8snet_node.route_to("10.244.2.5")["dev"] == "eth0"
            assert k8snet_node.document("facts").values["kernel"] == "6.12.0"
            assert str(k8snet_expect.mtu.pod) == "1400 (profile p.yaml:3)"
            assert k8snet_expect.custom == {"rack": 12}
            assert repr(k8snet_node) == f"<node {k8snet_node.name}>"
            if k8snet_node.name == "node-1":
                assert k8snet_node.sysctl("vm.swappiness") == "60"
                result = k8snet_node.run(["cat", "/proc/sys/vm/swappiness"])
                assert (result.exit_status, result.stdout) == (0, "60\\n")

        @check("ACME-2")
        def test_pair(k8snet_pair, k8snet_expect, k8snet_run):
            assert k8snet_pair.name in k8snet_run.pairs
            assert k8snet_pair.source.name != k8snet_pair.target.name
            assert k8snet_expect.proxy.mode.value == "ipvs"

        @check("ACME-3", level="load")
        def test_throughput(k8snet_pair, k8snet_measure):
            document = k8snet_measure("throughput")
            assert document.subject == k8snet_pair.name
            assert [take["path"] for take in document.values["takes"]] == ["host", "pod", "host"]

        @check("ACME-4")
        def test_cluster(k8snet_expect, k8snet_documents, k8snet_measure, k8snet_run):
            assert sorted(k8snet_documents("facts")) == list(k8snet_run.nodes) == ["node-1", "node-2", "node-3"]
            assert k8snet_measure("facts", "node-2").subject == "node-2"
            assert set(k8snet_expect.nodes) == set(k8snet_run.nodes)
            assert json.loads((k8snet_run.folder / "run.json").read_text())["id"] == k8snet_run.id
    """)
    ran = bench.own("--k8snet-profile=p.yaml")
    assert ran.status == 0, ran.out
    assert set(ran.verdicts.values()) == {"pass"}
    assert len(ran.cases) == 3 + 6 + 4 + 1  # nodes, ring, sample of load pairs, cluster


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("k8snet_measure('facts')", "k8snet_measure('facts'): name a subject; this test is of no node or pair"),
        ("k8snet_measure('facts', 'node-9')", "node-9"),
        (
            "k8snet_measure('throughput', 'node-1:node-2')",
            "throughput sends load, and the level is probe; mark the check with level='load'",
        ),
    ],
    ids=["no-subject", "unknown-node", "level"],
)
def test_measuring_what_cannot_be(bench: Bench, body: str, message: str) -> None:
    bench.checks(f"@check('ACME-1')\ndef test_it(k8snet_measure): {body}")
    ran = bench.own("--k8snet-level=probe")
    case = ran.cases["ACME-1[cluster]"]
    assert case.verdict == "error"
    assert message in case.properties["k8snet_message"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("@pytest.mark.k8snet_check('ACME-1')\ndef test_it(k8snet_node): pass", "takes keywords only: id=, level=, title=, doc="),
        ("@pytest.mark.k8snet_check(id='ACME-1')\ndef test_it(k8snet_node): pass", "missing level, title; want id=, level=, title="),
        ("@pytest.mark.k8snet_check(id='A-1', level='read', title='t', x=1)\ndef test_it(k8snet_node): pass", "unknown x; want id="),
        ("@check('acme')\ndef test_it(k8snet_node): pass", "got id='acme', want capitals and digits in parts joined by '-'"),
        ("@check(7)\ndef test_it(k8snet_node): pass", "got id=7, want capitals"),
        ("@check('A-1', level='all')\ndef test_it(k8snet_node): pass", "got level='all', want one of read, probe, load"),
        (
            "@pytest.mark.k8snet_check(id='A-1', level='read', title='')\ndef test_it(k8snet_node): pass",
            "got title='', want a sentence",
        ),
        (
            "@check('NET-MTU-001')\ndef test_it(k8snet_node): pass",
            "id NET-MTU-001: ids that begin with NET- are those of the packaged suite; take another prefix",
        ),
        ("@check('A-1')\ndef test_a(k8snet_node): pass\n\n@check('A-1')\ndef test_b(k8snet_node): pass", "check A-1 is there twice: "),
        (
            "\n".join(f"class {name}:\n    @check('A-1')\n    def test_it(self, k8snet_node): pass" for name in ("TestA", "TestB")),
            "check A-1 is there twice: ",
        ),
    ],
    ids=["positional", "missing", "unknown", "id", "id-type", "level", "title", "reserved", "twice", "twice-in-classes"],
)
def test_bad_markers(bench: Bench, code: str, message: str) -> None:
    bench.checks(code)
    ran = bench.own()
    assert ran.status == 4
    assert message in ran.line("ERROR: ")
    assert "test_own.py::" in ran.line("ERROR: ")


def test_bad_markers_under_xdist(bench: Bench) -> None:
    bench.checks("@check('NET-MTU-001')\ndef test_it(k8snet_node): pass")
    ran = bench.own("-n2")
    assert ran.status == 4
    assert ran.line("ERROR: ").endswith("take another prefix")
    assert "INTERNALERROR" not in ran.out


def test_bad_marker_without_a_cluster(bench: Bench) -> None:
    bench.checks("@check('acme')\ndef test_it(): pass")
    ran = bench.run(fake=False)
    assert ran.status == 4
    assert "got id='acme'" in ran.line("ERROR: ")


def test_names_of_cases(bench: Bench) -> None:
    bench.checks("""
        @check("ACME-1")
        @pytest.mark.parametrize("port", [53, 443])
        def test_ports(k8snet_node, port): pass

        @check("ACME-2")
        @pytest.mark.parametrize("port", [53, 443])
        def test_cluster_ports(k8snet_cluster, port): pass

        class TestA:
            def test_it(self, k8snet_cluster): pass

        class TestB:
            def test_it(self, k8snet_cluster): pass

        def test_no_check(): pass
    """)
    bench.checks("def test_it(k8snet_cluster): pass", "more/test_more.py")
    ran = bench.own("--k8snet-nodes=node-1")
    assert ran.status == 0
    assert set(ran.cases) == {
        "ACME-1[node-1-53]",
        "ACME-1[node-1-443]",
        "ACME-2[cluster-53]",
        "ACME-2[cluster-443]",
        "test_own.TestA.test_it[cluster]",
        "test_own.TestB.test_it[cluster]",
        "test_more.test_it[cluster]",
        "test_no_check",
    }
    assert ran.cases["test_no_check"].properties == {}
    assert ran.cases["ACME-1[node-1-53]"].properties["k8snet_subject"] == "node-1"


def test_modules_of_one_name(bench: Bench) -> None:
    for folder in ("a", "b"):
        bench.write(f"{folder}/__init__.py", "")
        bench.checks("def test_it(k8snet_cluster): pass", f"{folder}/test_same.py")
    ran = bench.own()
    assert ran.status == 0
    assert set(ran.cases) == {"a.test_same.test_it[cluster]", "b.test_same.test_it[cluster]"}
    assert {case.classname for case in ran.cases.values()} == {"k8snet.test_same"}


def test_k_finds_ids_and_subjects(bench: Bench) -> None:
    assert set(bench.run("-k", "NET-MTU-001 and node-2").cases) == {"NET-MTU-001[node-2]"}
    assert set(bench.run("-k", "node-1:node-2 and NET-THROUGHPUT-002").cases) == {"NET-THROUGHPUT-002[node-1:node-2]"}


def test_doc_of_a_check(bench: Bench) -> None:
    bench.checks("""
        @pytest.mark.k8snet_check(id="ACME-1", level="read", title="t", doc="https://wiki.example/acme-1")
        def test_it(k8snet_cluster): assert 0
    """)
    ran = bench.own()
    assert ran.cases["ACME-1[cluster]"].properties["k8snet_fix"] == "https://wiki.example/acme-1"
    assert "    fix: https://wiki.example/acme-1" in ran.out.splitlines()


def test_the_example_of_the_fake(bench: Bench) -> None:
    """The docstring of the fake access is a user's first conftest."""
    from textwrap import dedent

    from pytest_k8snet.access import fake

    assert fake.__doc__ is not None
    example = fake.__doc__.split("::\n", 1)[1].split("\n\nand run", 1)[0]
    bench.write("conftest.py", dedent(example))
    bench.checks("""
        @check("ACME-1")
        def test_it(k8snet_node):
            if k8snet_node.name == "node-1":
                assert k8snet_node.sysctl("vm.swappiness") == "60"
    """)
    assert bench.own().status == 0
    ran = bench.run()
    assert ran.verdicts["NET-PROXY-001[node-2]"] == "fail"
