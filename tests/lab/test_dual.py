"""Clusters whose pods have IPv6: green when healthy, and faults of one address family turn exactly its cases red.

They run only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.suite import NOTHING_TO_JUDGE, Lab, assert_nothing_is_left, running_lab

PROFILES = tuple(f"--k8snet-profile={name}" for name in ("lab", "ipvs", "native", "tuned-node"))
pytestmark = pytest.mark.part("dual")


@pytest.fixture(scope="module")
def dual(results: Path) -> Iterator[Lab]:
    with running_lab("test-dual", results, "--nodes", "2", "--ip-family", "dual", "--line-rate", "50mbit") as lab:
        yield lab


def test_healthy(dual: Lab) -> None:
    outcome = dual.run_suite("dual", *PROFILES)
    assert (outcome.exit_status, outcome.noteworthy) == (0, set()), outcome.output
    assert outcome.skipped_checks == NOTHING_TO_JUDGE | {"NET-ENCAP-002", "NET-MTU-003"} | {
        f"NET-ABSENCE-00{number}" for number in range(1, 6)
    }
    assert_nothing_is_left(dual)
