"""The benchmark's simulated cluster: the whole suite finds exactly the nodes that are broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import reach
from benchmarks.faults import FAULTS
from benchmarks.scale import Scale, simulate

#: All but those of the IPVS table, which are looked at for half a minute before they are told.
QUICK = [fault.name for fault in FAULTS if fault.turns != ("NET-PROXY-006",)]


@pytest.mark.parametrize("workers", [0, 2])
def test_exactly_the_faulty_nodes_are_found(tmp_path: Path, workers: int) -> None:
    assert [fault.name for fault in FAULTS[: len(QUICK)]] == QUICK
    outcome = simulate(Scale(34, times=2, workers=workers), tmp_path, faulty=len(QUICK))
    assert (outcome.missed, outcome.wrong) == (set(), set())
    assert outcome.cases > 34 * 30


def test_the_one_way_that_is_broken_is_found(tmp_path: Path) -> None:
    outcome = reach.simulate(12, tmp_path)
    assert outcome.red == outcome.expected


def test_every_fault_turns_a_check_of_its_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) == 20
    assert all(fault.turns for fault in FAULTS)
