"""The Lease of fixed name that keeps two runs from measuring load in one cluster at the same time.

It is held as Kubernetes' own leader election holds one: the holder renews it every few seconds; who waits takes it over when its record has
not changed for as long as it is valid, by a clock of one's own that nobody sets. When measuring has ended it is deleted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.cluster.ownership import EXPIRES, MANAGED_BY, MANAGER, RUN_ID
from pytest_k8snet.cluster.times import read_time
from pytest_k8snet.errors import ClusterError, K8sNetError, MeasurementError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

NAMESPACE = "default"
NAME = "k8snet-load"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"

_WHAT = f"Lease {NAMESPACE}/{NAME}"
_STOP_S = 20.0
_FINAL = frozenset({400, 401, 403, 404, 405, 422})  # answers that no patience changes


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take, in seconds."""

    duration_s: int = 30  # how long a record is valid that nobody renews
    renew_s: float = 10.0
    poll_s: float = 1.0  # between two looks at a Lease that is waited for, or two tries to renew one
    stale_s: int = 600  # a record whose time of renewal lies so far back is nobody's, by whichever clock


class Leases(Protocol):
    """Where the Lease is kept. Raw objects in and out; a conflict is an `ApiError` with status 409."""

    def get(self) -> dict[str, Any] | None:
        """Return the Lease, None when there is none."""

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create it."""

    def replace(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the version that `body` names."""

    def delete(self, uid: str, version: str) -> None:
        """Delete this version of this object, nothing else; one that is not there is fine."""


class ApiLeases:
    """The Lease in a cluster. Requests are not repeated: who holds a Lease has to know how old its last renewal is."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def get(self) -> dict[str, Any] | None:
        """Read it."""
        try:
            found: dict[str, Any] = self._api.request("GET", f"{LEASES}/{NAME}", patience_s=0)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create it."""
        made: dict[str, Any] = self._api.request("POST", LEASES, body=body, patience_s=0)
        return made

    def replace(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace it."""
        made: dict[str, Any] = self._api.request("PUT", f"{LEASES}/{NAME}", body=body, patience_s=0)
        return made

    def delete(self, uid: str, version: str) -> None:
        """Delete it."""
        self._api.delete(f"{LEASES}/{NAME}", preconditions={"uid": uid, "resourceVersion": version})


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What the holder's process says of the Lease to those that measure."""

    holder: str
    renewed_s: float  # on the machine's monotonic clock, which all its processes share
    duration_s: int
    error: str | None = None  # why it is not held

    def to_json(self) -> dict[str, Any]:
        """Return builtin values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LeaseState:
        """Read what `to_json` gave."""
        return cls(**data)

    def problem(self, leases: Leases) -> str | None:
        """Return why nobody may rely on the Lease now, None when it is held."""
        if self.error is not None:
            return self.error
        try:
            record = leases.get()
        except ClusterError as error:
            age_s = time.monotonic() - self.renewed_s
            # As long as its record is valid nobody takes it over.
            return None if age_s < self.duration_s else _lost(f"it could not be renewed for {age_s:.0f} s: {error}")
        return None if holder_of(record) == self.holder else _lost(_whose(record))


class LoadLease:
    """The Lease from the first attempt to take it to its removal, in a thread of its own.

    `say` gets a line for the user when the run has to wait, `tell` what those that measure have to know, from that thread.
    """

    def __init__(
        self,
        leases: Leases,
        run_id: str,
        *,
        wait_s: float,
        say: Callable[[str], None],
        tell: Callable[[LeaseState], None],
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.holder = f"k8snet-{run_id}"
        self._leases = leases
        self._run_id = run_id
        self._wait_s = wait_s
        self._say = say
        self._tell = tell
        self._timing = timing or Timing()
        self._clock = clock
        self._stopped = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name="k8snet-lease", daemon=True)

    def start(self) -> None:
        """Begin to take it."""
        self._thread.start()

    def release(self) -> None:
        """Let go of it; does not wait for that."""
        self._stopped.set()

    def remove(self) -> str | None:
        """Let go of it, and return what went wrong."""
        self._stopped.set()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            return f"{_WHAT}: the API server has not answered for {_STOP_S:g} s; other runs wait until it expires"
        return self._trouble

    def _work(self) -> None:
        error = "the thread that holds it broke off"
        try:
            taken = self._take()
            error = self._hold(*taken) if taken is not None else "the run is ending"
        except K8sNetError as failure:
            error = str(failure)
        finally:
            self._tell_held(0.0, error)

    def _take(self) -> tuple[dict[str, Any], float] | None:
        """Return the record when it is ours, and when it was written at the latest; None when there is no need any more.

        Raises a `K8sNetError` that says who has it when the time to wait is over, and when it may not be had at all.
        """
        until = self._clock() + self._wait_s
        seen: tuple[str, float] | None = None  # a version, and since when it has been the newest
        said: str | None = None
        while not self._stopped.is_set():
            failure: ClusterError | None = None
            record: dict[str, Any] | None = None
            now = self._clock()
            try:
                record = self._leases.get()
                if record is None:
                    return self._leases.create(self._body(None)), now
                version = str(record["metadata"]["resourceVersion"])
                seen = seen if seen is not None and seen[0] == version else (version, now)
                if holder_of(record) in ("", self.holder) or self._is_stale(record, now - seen[1]):
                    return self._leases.replace(self._body(record)), now
            except ClusterError as error:
                if isinstance(error, ApiError) and error.status == 409:
                    continue  # somebody was quicker
                failure = error
            if self._clock() >= until or (isinstance(failure, ApiError) and failure.status in _FINAL):
                raise MeasurementError(self._refusal(record, failure))
            if record is not None and said != holder_of(record):
                said = holder_of(record)
                self._say(f"{_whose(record)}: load is not measured until it has ended, or for {self._wait_s:g} s ({_WHAT})")
            self._stopped.wait(self._timing.poll_s)
        return None

    def _hold(self, record: dict[str, Any], renewed_s: float) -> str:
        """Renew it until it is not needed any more, then delete it; return why it is not held."""
        pause_s = self._timing.renew_s
        self._tell_held(renewed_s)
        while not self._stopped.wait(pause_s):
            pause_s = self._timing.poll_s
            now = self._clock()
            try:
                record = self._leases.replace(self._body(record))
            except ClusterError as error:
                if not isinstance(error, ApiError) or error.status not in (404, 409):
                    continue  # an API server that is away for a moment; those that measure see how old the last renewal is
            else:
                self._tell_held(now)
                pause_s = self._timing.renew_s
                continue
            try:
                current = self._leases.get()
            except ClusterError:
                continue
            if current is None or holder_of(current) != self.holder:
                return _lost(_whose(current))
            record, pause_s = current, 0.0
        self._delete(record)
        return "the run has let go of it"

    def _delete(self, record: dict[str, Any]) -> None:
        try:
            try:
                self._leases.delete(record["metadata"]["uid"], record["metadata"]["resourceVersion"])
            except ApiError as error:
                current = self._leases.get() if error.status == 409 else None
                if error.status != 409:
                    raise
                if current is not None and holder_of(current) == self.holder:  # changed by somebody, or by a renewal whose answer was lost
                    self._leases.delete(current["metadata"]["uid"], current["metadata"]["resourceVersion"])
        except ClusterError as error:
            self._trouble = f"{_WHAT} could not be removed: {error}; other runs wait until it expires"

    def _tell_held(self, renewed_s: float, error: str | None = None) -> None:
        self._tell(LeaseState(self.holder, renewed_s, self._timing.duration_s, error))

    def _is_stale(self, record: Mapping[str, Any], unchanged_s: float) -> bool:
        spec = record.get("spec") or {}
        renewed = read_time(spec.get("renewTime"))
        if renewed is not None and datetime.now(UTC) - renewed > timedelta(seconds=self._timing.stale_s):
            return True
        return unchanged_s >= float(spec.get("leaseDurationSeconds") or self._timing.duration_s)

    def _body(self, record: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the Lease with us as its holder: a new one, or the next version of `record`."""
        now = datetime.now(UTC)
        spec = {} if record is None else record.get("spec") or {}
        ours = record is not None and holder_of(record) == self.holder
        metadata: dict[str, Any] = {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {MANAGED_BY: MANAGER, RUN_ID: self._run_id},
            "annotations": {EXPIRES: (now + timedelta(seconds=self._timing.stale_s)).isoformat(timespec="seconds")},
        }
        if record is not None:
            metadata |= {key: record["metadata"][key] for key in ("uid", "resourceVersion")}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": self._timing.duration_s,
                "acquireTime": spec["acquireTime"] if ours and spec.get("acquireTime") else _micro_time(now),
                "renewTime": _micro_time(now),
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (record is not None and not ours),
            },
        }

    def _refusal(self, record: Mapping[str, Any] | None, failure: ClusterError | None) -> str:
        if failure is not None:
            return f"load is not measured: {_WHAT}: {failure}"
        waited = f"and had not ended after {self._wait_s:g} s" if self._wait_s else "and is not waited for"
        return (
            f"load is not measured: {_whose(record)}, {waited} ({_WHAT}); "
            "--k8snet-lock-wait waits longer, --k8snet-no-lock measures beside it"
        )


def holder_of(record: Mapping[str, Any] | None) -> str:
    """Return who holds the Lease; empty when nobody does."""
    return str(((record or {}).get("spec") or {}).get("holderIdentity") or "")


def _whose(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "somebody has deleted it"
    if not holder_of(record):
        return "nobody holds it"
    since = read_time((record.get("spec") or {}).get("acquireTime"))
    return f"{holder_of(record)} measures load in this cluster" + (f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "")


def _lost(why: str) -> str:
    return f"load does not count without {_WHAT}, which keeps others from measuring at the same time, and it was lost: {why}"


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
