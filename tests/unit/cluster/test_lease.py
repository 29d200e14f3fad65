from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.lease import ApiLeases, LeaseState, LoadLease, Timing
from tests.unit.fakeapi import FakeApiServer, LeaseCell, status, write_kubeconfig

QUICK = Timing(renew_s=0.02, poll_s=0.02)
DEADLINE_S = 20.0
FORBIDDEN = status(403, "Forbidden", 'leases.coordination.k8s.io is forbidden: User "me" cannot get resource "leases"')
AWAY = status(503, "ServiceUnavailable", "apiserver not ready")


class Party:
    """A run that wants the Lease."""

    def __init__(self, api: Api, run_id: str, **more: Any) -> None:
        self.leases = ApiLeases(api)
        self.said: list[str] = []
        self.states: list[LeaseState] = []
        told = {"say": self.said.append, "tell": self.states.append}
        self.lease = LoadLease(self.leases, run_id, **{"wait_s": DEADLINE_S, "timing": QUICK, **told, **more})

    def start(self) -> Party:
        self.lease.start()
        return self

    def problem(self) -> str | None:
        """Return what those that measure are told, once they are told something."""
        wait_for(lambda: self.states)
        return self.states[-1].problem(self.leases)


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < until, "it has not happened"
        time.sleep(0.005)


@pytest.fixture
def cell(server: FakeApiServer) -> LeaseCell:
    return LeaseCell(server)


@pytest.fixture
def party(api: Api) -> Iterator[Callable[..., Party]]:
    """Give a function that makes a run; all let go at the end."""
    made: list[Party] = []

    def make(run_id: str, **more: Any) -> Party:
        made.append(Party(api, run_id, **more).start())
        return made[-1]

    yield make
    for item in made:
        item.lease.remove()


def test_taken_and_given_back(cell: LeaseCell, party: Callable[..., Party]) -> None:
    first = party("r1")
    assert first.problem() is None
    record = cell.record
    assert record is not None
    assert record["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "pytest-k8snet", "k8snet/run-id": "r1"}
    assert datetime.fromisoformat(record["metadata"]["annotations"]["k8snet/expires"]) > datetime.now(UTC)
    assert (record["spec"]["holderIdentity"], record["spec"]["leaseDurationSeconds"]) == ("k8snet-r1", 30)
    assert len(record["spec"]["renewTime"]) == len("2026-06-01T12:03:11.000000Z"), "Kubernetes takes exactly six digits"
    assert first.lease.remove() is None
    assert cell.record is None
    assert first.said == []


def test_it_is_renewed(cell: LeaseCell, party: Callable[..., Party]) -> None:
    first = party("r1")
    wait_for(lambda: len(cell.history) > 4)
    assert cell.record is not None
    assert cell.record["spec"]["acquireTime"] < cell.record["spec"]["renewTime"]
    assert cell.record["spec"]["leaseTransitions"] == 0
    assert first.states[-1].renewed_s > first.states[0].renewed_s


def test_the_second_waits_for_the_first(cell: LeaseCell, party: Callable[..., Party]) -> None:
    first = party("r1")
    assert first.problem() is None
    second = party("r2")
    wait_for(lambda: second.said)
    assert second.states == []
    first.lease.remove()
    assert second.problem() is None
    assert cell.holder == "k8snet-r2"
    (line,) = second.said
    assert line.startswith("k8snet-r1 measures load in this cluster since 20")
    assert line.endswith(" UTC: load is not measured until it has ended, or for 20 s (Lease default/k8snet-load)")


@pytest.mark.parametrize(("wait_s", "words"), [(0, "and is not waited for"), (0.1, "and had not ended after 0.1 s")])
def test_refused(cell: LeaseCell, party: Callable[..., Party], wait_s: float, words: str) -> None:
    cell.put("k8snet-other")
    second = party("r2", wait_s=wait_s)
    assert second.problem() == (
        f"load is not measured: k8snet-other measures load in this cluster since 2026-06-01 12:03:11 UTC, {words} "
        "(Lease default/k8snet-load); --k8snet-lock-wait waits longer, --k8snet-no-lock measures beside it"
    )
    assert second.lease.remove() is None
    assert cell.holder == "k8snet-other", "what is another run's stays"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_record_that_does_not_change_while_it_is_valid_is_taken_over(
    server: FakeApiServer, cell: LeaseCell, party: Callable[..., Party]
) -> None:
    clock = Clock()

    def pass_by(seconds: float) -> None:
        """Move the clock, and wait until the Lease has been looked at since."""
        clock.now += seconds
        looks = len(server.asked("GET"))
        wait_for(lambda: len(server.asked("GET")) > looks + 2 or cell.holder == "k8snet-r2")

    cell.put("k8snet-other", duration_s=40)
    party("r2", wait_s=1e6, clock=clock)
    pass_by(0)
    for _ in range(3):
        pass_by(35)
        assert cell.holder == "k8snet-other"
        cell.put("k8snet-other", duration_s=40)  # it is renewed
        pass_by(0)
    pass_by(35)
    assert cell.holder == "k8snet-other"
    pass_by(10)
    assert cell.record is not None
    assert (cell.holder, cell.record["spec"]["leaseTransitions"]) == ("k8snet-r2", 1)


@pytest.mark.parametrize(("minutes", "taken"), [(11, True), (9, False)])
def test_one_that_was_renewed_long_ago_is_taken_over_at_once(
    cell: LeaseCell, party: Callable[..., Party], minutes: int, taken: bool
) -> None:
    renewed = datetime.now(UTC) - timedelta(minutes=minutes)
    cell.put("k8snet-dead", renewed=renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    assert (party("r2", wait_s=0).problem() is None) is taken


def test_one_that_nobody_holds_is_taken(cell: LeaseCell, party: Callable[..., Party]) -> None:
    cell.put("")
    assert party("r2", wait_s=0).problem() is None


def test_a_killed_run_is_followed_by_the_next(server: FakeApiServer, cell: LeaseCell, party: Callable[..., Party], tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path / "killed", server.url)
    program = (
        "import sys, time\n"
        "from pytest_k8snet.cluster.api import Api\n"
        "from pytest_k8snet.cluster.lease import ApiLeases, LoadLease, Timing\n"
        "leases = ApiLeases(Api.from_kubeconfig(sys.argv[1]))\n"
        "timing = Timing(duration_s=1, renew_s=0.1, poll_s=0.02)\n"
        "LoadLease(leases, 'r1', wait_s=0, say=print, tell=print, timing=timing).start()\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(config)], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(cell.history) > 2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE_S)
    assert cell.holder == "k8snet-r1"
    assert party("r2").problem() is None
    assert cell.holder == "k8snet-r2"


def test_lost_to_somebody_else(cell: LeaseCell, party: Callable[..., Party]) -> None:
    first = party("r1")
    assert first.problem() is None
    cell.put("k8snet-other")
    wanted = (
        "load does not count without Lease default/k8snet-load, which keeps others from measuring at the same time, and it was lost: "
        "k8snet-other measures load in this cluster since 2026-06-01 12:03:11 UTC"
    )
    assert first.problem() == wanted, "at once, whenever it is renewed"
    wait_for(lambda: first.states[-1].error is not None)
    cell.drop()
    assert first.problem() == wanted, "and for good"
    cell.put("k8snet-other")
    assert first.lease.remove() is None
    assert cell.holder == "k8snet-other"


def test_deleted_by_somebody(cell: LeaseCell, party: Callable[..., Party]) -> None:
    first = party("r1")
    assert first.problem() is None
    cell.drop()
    problem = first.problem()
    assert problem is not None
    assert problem.endswith("it was lost: somebody has deleted it")


@pytest.mark.parametrize("failure", [AWAY, FORBIDDEN], ids=["away", "forbidden"])
def test_without_an_answer_the_last_renewal_counts(cell: LeaseCell, api: Api, failure: tuple[int, object]) -> None:
    cell.put("k8snet-other")
    cell.failure = failure
    now = time.monotonic()
    assert LeaseState("k8snet-r1", now, 30).problem(ApiLeases(api)) is None
    problem = LeaseState("k8snet-r1", now - 31, 30).problem(ApiLeases(api))
    assert problem is not None
    assert (
        "it was lost: it could not be renewed for 31 s: GET /apis/coordination.k8s.io/v1/namespaces/default/leases/k8snet-load" in problem
    )


@pytest.mark.parametrize("failure", [AWAY, FORBIDDEN], ids=["away", "forbidden"])
def test_renewals_go_on_when_the_api_server_is_back(
    server: FakeApiServer, cell: LeaseCell, party: Callable[..., Party], failure: tuple[int, object]
) -> None:
    first = party("r1")
    assert first.problem() is None
    cell.failure = failure
    tries = len(server.asked("PUT"))
    wait_for(lambda: len(server.asked("PUT")) > tries + 3)
    renewals = len(first.states)
    cell.failure = None
    wait_for(lambda: len(first.states) > renewals)
    assert first.problem() is None


def test_a_renewal_whose_answer_is_lost(cell: LeaseCell, party: Callable[..., Party]) -> None:
    first = party("r1")
    assert first.problem() is None
    cell.lost_answers = 1
    wait_for(lambda: cell.lost_answers == 0)
    renewals = len(first.states)
    wait_for(lambda: len(first.states) > renewals + 1)
    assert first.problem() is None
    assert first.lease.remove() is None
    assert cell.record is None


def test_a_creation_whose_answer_is_lost(cell: LeaseCell, party: Callable[..., Party]) -> None:
    cell.lost_answers = 1
    assert party("r1").problem() is None
    assert cell.holder == "k8snet-r1"


def test_changed_by_somebody_just_before_it_is_given_back(cell: LeaseCell, api: Api) -> None:
    patient = Party(api, "r1", timing=Timing()).start()
    assert patient.problem() is None
    cell.put("k8snet-r1")  # another version
    assert patient.lease.remove() is None
    assert cell.record is None


def test_forbidden(cell: LeaseCell, party: Callable[..., Party]) -> None:
    cell.failure = FORBIDDEN
    problem = party("r1").problem()  # though there is time to wait
    assert problem is not None
    assert problem.startswith("load is not measured: Lease default/k8snet-load: GET /apis/coordination.k8s.io/")
    assert "needs the verb get on leases.coordination.k8s.io; k8snet manifests rbac prints a role" in problem


def test_an_api_server_that_is_away_is_waited_for(cell: LeaseCell, party: Callable[..., Party]) -> None:
    cell.failure = AWAY
    first = party("r1")
    assert first.states == []
    cell.failure = None
    assert first.problem() is None


def test_an_api_server_that_stays_away(cell: LeaseCell, party: Callable[..., Party]) -> None:
    cell.failure = AWAY
    problem = party("r1", wait_s=0.1).problem()
    assert problem is not None
    assert problem.startswith("load is not measured: Lease default/k8snet-load: GET ")
    assert "HTTP 503: apiserver not ready" in problem


def test_what_cannot_be_removed_is_told(cell: LeaseCell, api: Api) -> None:
    patient = Party(api, "r1", timing=Timing()).start()
    assert patient.problem() is None
    cell.failure = AWAY
    trouble = patient.lease.remove()
    assert trouble is not None
    assert trouble.startswith("Lease default/k8snet-load could not be removed: DELETE ")
    assert trouble.endswith("; other runs wait until it expires")


def test_a_run_that_ends_while_it_waits(cell: LeaseCell, party: Callable[..., Party]) -> None:
    cell.put("k8snet-other")
    second = party("r2")
    wait_for(lambda: second.said)
    assert second.lease.remove() is None
    assert second.problem() == "the run is ending"
    assert cell.holder == "k8snet-other"


def test_state_crosses_processes() -> None:
    state = LeaseState("k8snet-r1", 12.5, 30, "lost")
    assert LeaseState.from_json(state.to_json()) == state
