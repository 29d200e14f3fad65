"""The table of faults says what its users rely on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_k8snet.catalogue import checks
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults.matrix import Row, read_rows
from pytest_k8snet.lab.faults.model import EVERY_NODE, INTO_NODE, NODE, PEER_NODE, Fault
from pytest_k8snet.lab.faults.table import FAULTS, WITHOUT_FAULT, fault, page, to_json, turned

DOCS = Path(__file__).parents[3] / "docs"
ROWS = read_rows(DOCS / "faults.json")

NODES = ("node-1", "node-2", "node-3")
PAIRS = ("node-1:node-2", "node-2:node-3", "node-3:node-1", "node-2:node-1")


def test_names_are_unique_and_safe() -> None:
    names = [known.name for known in FAULTS]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


@pytest.mark.parametrize("known", FAULTS, ids=lambda known: known.name)
def test_every_fault_turns_something_on_the_node(known: Fault) -> None:
    assert turned(known, "node-2", NODES, PAIRS)


def test_unknown_fault_names_those_that_exist() -> None:
    with pytest.raises(LabError, match=r"no fault is called 'flood'; there are: proxy-mode-iptables, "):
        fault("flood")


def test_turned_resolves_node_cluster_and_pairs() -> None:
    assert turned(fault("proxy-mode-iptables"), "node-2", NODES, PAIRS) == {
        ("NET-PROXY-001", "node-2", "fail"),
        ("NET-PROXY-002", "cluster", "fail"),
        ("NET-PROXY-007", "node-2", "fail"),
        ("NET-SERVICE-004", "node-2", "fail"),
    }
    assert turned(fault("pod-path-throttled"), "node-1", NODES, PAIRS) == {
        (check, pair, "fail") for check in ("NET-THROUGHPUT-001", "NET-THROUGHPUT-003") for pair in ("node-3:node-1", "node-2:node-1")
    }


def test_turned_resolves_every_node() -> None:
    assert turned(fault("flannel-backend-changed"), "node-2", NODES, PAIRS) == {("NET-ENCAP-001", node, "fail") for node in NODES}


def test_turned_resolves_the_peer() -> None:
    assert turned(fault("pods-delayed"), "node-3", NODES, PAIRS) == {("NET-LATENCY-001", node, "fail") for node in ("node-3", "node-1")}


def test_json_keeps_the_node_open_and_names_pairs() -> None:
    assert to_json(fault("pod-mtu-1450"), "node-2", NODES, PAIRS)["turns"] == [
        {"check": "NET-MTU-001", "subject": "{node}", "verdict": "fail"}
    ]
    assert [turn["subject"] for turn in to_json(fault("iperf3-server-killed"), "node-2", NODES, PAIRS)["turns"]] == ["node-1:node-2"] * 5


def test_areas_of_faults_are_those_of_checks() -> None:
    assert {known.area for known in FAULTS} <= {check.area for check in checks()}


def test_every_check_that_a_fault_turns_is_of_the_catalogue() -> None:
    known_checks = {check.id: check for check in checks()}
    for known in FAULTS:
        for turns in known.turns:
            assert turns.check in known_checks, known.name
            subject = {NODE: "node", EVERY_NODE: "node", PEER_NODE: "node", INTO_NODE: "pair"}.get(turns.subject, "cluster")
            assert known_checks[turns.check].subject == subject, f"{known.name} turns {turns.check}"
            assert turns.verdict in {"fail", "error", "inconclusive"}, known.name


def test_the_page_has_every_fault_once_and_links_that_lead_somewhere() -> None:
    text = page(ROWS)
    for known in FAULTS:
        assert len(re.findall(rf"^\| `{known.name}` \|.*\|$", text, re.MULTILINE)) == 1, known.name
        assert "|" not in known.summary, known.name
    assert all((DOCS / link).is_file() for link in re.findall(r"\]\(([^)#]+)\)", text))


def test_the_page_is_up_to_date() -> None:
    assert (DOCS / "faults.md").read_text() == page(ROWS), "write it again: k8snet lab fault list --write-docs docs/faults.md"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "+".join(row.faults))
def test_what_is_published_of_a_run_is_of_faults_that_there_are_and_of_exactly_their_cases(row: Row) -> None:
    assert {fault(name).name for name in row.faults} == row.faults.keys()
    assert (row.missing, row.beyond) == ((), ())
    assert row.turned > 0


def test_every_check_has_a_fault_that_turns_it_red_or_a_reason_why_it_has_none() -> None:
    turned_by_faults = {turns.check for known in FAULTS for turns in known.turns}
    assert {check.id for check in checks()} - turned_by_faults == WITHOUT_FAULT.keys()
