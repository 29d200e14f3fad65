from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.expect.profile import load_profiles, profile_from_json, profile_to_json
from pytest_k8snet.expect.resolve import Waiver
from pytest_k8snet.expect.waivers import remarks

TODAY = datetime.date(2026, 6, 1)
CLUSTER = Cluster(version="v1.37.0", nodes=(fake_node("node-1", 1), fake_node("node-2", 2)), claims={}, kube_proxy_daemonsets=(), cni=None)
JUDGED = [
    ("NET-MTU-001", "node-1", False),
    ("NET-MTU-001", "node-2", True),
    ("NET-THROUGHPUT-001", "node-1:node-2", False),
    ("ACME-1", "x", True),
]


def refused(folder: Path, waiver: str) -> str:
    path = folder / "p.yaml"
    path.write_text(f"name: x\nwaivers:\n- {waiver}\n")
    with pytest.raises(ConfigurationError) as caught:
        load_profiles([str(path)])
    return str(caught.value).removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("waiver", "message"),
    [
        ("{check: NET-MTU-999, reason: r, expires: 2030-01-01}", "3: waivers.0.check: 'NET-MTU-999' is no check; did you mean 'NET-MTU-"),
        (
            "{check: net-mtu-001, reason: r, expires: 2030-01-01}",
            "3: waivers.0.check: 'net-mtu-001' is no check; did you mean 'NET-MTU-001'?",
        ),
        ("{check: NET-MTO-*, reason: r, expires: 2030-01-01}", "3: waivers.0.check: 'NET-MTO-*' is no check; `k8snet checks` lists them"),
        (
            "{check: 'NET-MTU-001[node-2]', reason: r, expires: 2030-01-01}",
            "3: waivers.0.check: 'NET-MTU-001[node-2]' is no check; write check: NET-MTU-001 and nodes: ['node-2']",
        ),
        (
            "{check: 'NET-MTU-001,NET-MTU-002', reason: r, expires: 2030-01-01}",
            "3: waivers.0.check: 'NET-MTU-001,NET-MTU-002' is no check; a waiver has one id or pattern; write one waiver for each",
        ),
        ("{check: ACME-1, expires: 2030-01-01}", "3: waivers.0.reason is missing"),
        ("{check: ACME-1, reason: '  ', expires: 2030-01-01}", "3: waivers.0.reason is empty"),
        ("{check: ACME-1, reason: , expires: 2030-01-01}", "3: waivers.0.reason is empty"),
        ("{check: '', reason: r, expires: 2030-01-01}", "3: waivers.0.check is empty"),
        ("{reason: r, expires: 2030-01-01}", "3: waivers.0.check is missing"),
        ("{check: ACME-1, reason: r}", "3: waivers.0.expires is missing"),
        ("{check: ACME-1, reason: r, expires: never}", "3: waivers.0.expires: got 'never', want a date such as 2027-03-31"),
        ("{check: ACME-1, reason: r, expires: 2027-02-30}", "3: waivers.0.expires: got '2027-02-30', want a date such as 2027-03-31"),
        ("{check: ACME-1, reason: r, expires: 20270331}", "3: waivers.0.expires: got '20270331', want a date such as 2027-03-31"),
        (
            "{check: ACME-1, reason: r, expires: 2027-03-31 12:00:00}",
            "3: waivers.0.expires: got '2027-03-31 12:00:00', want a date such as",
        ),
        ("{check: ACME-1, reason: r, expires: 31.3.2027}", "3: waivers.0.expires: got '31.3.2027', want a date such as 2027-03-31"),
        ("{check: ACME-1, reason: r, expires: 2030-01-01, nodes: node-1}", "3: waivers.0.nodes: got 'node-1', want a list"),
        ("{check: ACME-1, reason: r, expires: 2030-01-01, nodes: []}", "3: waivers.0.nodes is empty"),
        ("{check: ACME-1, reason: r, expires: 2030-01-01, node: [a]}", "3: unknown key 'waivers.0.node'; did you mean 'nodes'?"),
        ("NET-MTU-001", "3: waivers.0: got 'NET-MTU-001', want a section with keys of its own"),
    ],
)
def test_waivers_that_are_none(tmp_path: Path, waiver: str, message: str) -> None:
    assert refused(tmp_path, waiver).startswith(message)


@pytest.mark.parametrize("check", ["NET-MTU-001", "NET-*", "*", "NET-MTU-00[12]", "ACME-1", "acme*"])
def test_checks_that_there_are_or_may_be(tmp_path: Path, check: str) -> None:
    """Checks of one's own are not known before a run."""
    (tmp_path / "p.yaml").write_text(f"waivers:\n- check: '{check}'\n  reason: r\n  expires: '2030-01-01'\n")
    assert load_profiles([str(tmp_path / "p.yaml")]).model.waivers[0].expires == datetime.date(2030, 1, 1)


def test_recorded_waivers_are_those_of_the_version_that_recorded(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("waivers:\n- {check: ACME-1, reason: r, expires: 2030-01-01}\n")
    recorded = profile_to_json(load_profiles([str(tmp_path / "p.yaml")]))
    recorded["profiles"][0]["files"][0]["text"] = "waivers:\n- {check: NET-NEW-001, reason: r, expires: 2030-01-01}\n"
    read = profile_from_json(recorded, where="x")
    assert read is not None
    assert read.model.waivers[0].check == "NET-NEW-001"


@pytest.mark.parametrize(
    ("check", "nodes", "days", "text"),
    [
        ("NET-MTU-001", "node-2", 15, None),
        ("NET-MTU-001", "node-2", 14, "ends in 14 days, on 2026-06-15: why"),
        ("NET-MTU-*", "*", 1, "ends tomorrow, on 2026-06-02: why"),
        ("NET-MTU-001", "node-2", 0, "ends today, on 2026-06-01: why"),
        (
            "NET-MTU-001",
            "node-1",
            -1,
            "ended on 2026-05-31: it excuses nothing any more; remove or renew it: why",
        ),
        ("NET-MTU-001", "node-1", 100, "was not needed: all that it covers in this run is as expected"),
        ("NET-THROUGHPUT-*", "node-2", 100, "was not needed: all that it covers in this run is as expected"),
        ("NET-PROXY-001", "node-1", 100, None),
        ("ACME-2", "*", 100, "is of no check that this run has"),
        ("NET-MTU-001", "edge-*", 100, "is of no node of this cluster: edge-*"),
        ("NET-PROXY-002", "cluster", 100, None),
        ("ACME-1", "x", 100, None),
    ],
)
def test_remarks(check: str, nodes: str, days: int, text: str | None) -> None:
    expires = TODAY + datetime.timedelta(days=days)
    waiver = Waiver(check, (nodes,), "why", expires, "profile p.yaml:2", expired=False)
    assert remarks([waiver], JUDGED, CLUSTER, TODAY) == ([] if text is None else [f"waiver of {check} (profile p.yaml:2) {text}"])
