"""What runs on broken labs gave is kept, and the later run of a group counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults.matrix import Row, merged, read_rows, write_rows
from pytest_k8snet.lab.faults.table import page

ROW = Row(
    faults={"sysctl-reset": "node-2", "qdisc-replaced": "node-3"},
    network="native",
    proxy_mode="ipvs",
    ip_family="dual",
    node_kernel="uml",
    nodes=3,
    level="read",
    day="2026-01-31",
    apply_s=3.4,
    run_s=25.6,
    revert_s=2.0,
    turned=2,
    missing=(),
    beyond=(),
)
KNOWN = ("sysctl-reset", "qdisc-replaced", "pod-untuned")


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "faults.json"
    assert read_rows(file) == ()
    rows = (ROW, replace(ROW, network="vxlan", missing=(("NET-KERNEL-003", "node-3", "fail"),)))
    write_rows(file, rows)
    assert read_rows(file) == rows


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps({"version": 2, "rows": []}), "a matrix of version 2; this is of version 1"),
        (json.dumps({"version": 1, "rows": [{"faults": {}}]}), "no matrix of faults"),
        ("[]", "no matrix of faults"),
        ("", "no matrix of faults"),
    ],
)
def test_what_is_no_matrix_is_told(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "faults.json"
    file.write_text(text)
    with pytest.raises(LabError, match=told):
        read_rows(file)


def test_a_later_run_of_a_group_takes_the_place_of_an_earlier_one() -> None:
    later = replace(ROW, faults=dict(reversed([*ROW.faults.items()])), run_s=30.0)
    elsewhere = replace(ROW, network="vxlan")
    assert merged([ROW, elsewhere], [later], faults=KNOWN) == (later, elsewhere)


def test_groups_with_faults_that_are_gone_go() -> None:
    assert merged([ROW], [replace(ROW, faults={"pod-untuned": "node-1"})], faults=("pod-untuned",)) == (
        replace(ROW, faults={"pod-untuned": "node-1"}),
    )


def test_a_row_of_the_page() -> None:
    assert page([ROW]).endswith(
        "| `sysctl-reset` (node-2), `qdisc-replaced` (node-3) | native, ipvs, both families; 3 nodes in User-Mode Linux | read "
        "| 3 | 26 | 2 | 2 cases, exactly those declared | 2026-01-31 |\n"
    )
    wrong = replace(
        ROW,
        ip_family="ipv4",
        node_kernel="qemu",
        missing=(("NET-MTU-001", "node-1", "fail"),),
        beyond=(("NET-DNS-001", "cluster", "error"),),
    )
    assert page([wrong]).endswith(
        "| native, ipvs; 3 nodes in QEMU | read | 3 | 26 | 2 | "
        "2 cases, not those declared; without NET-MTU-001 of node-1 (fail); and NET-DNS-001 of cluster (error) | 2026-01-31 |\n"
    )
