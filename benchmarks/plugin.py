"""A pytest plugin that leads a run to the simulated cluster: `pytest -p benchmarks.plugin --k8snet-access=fake --k8snet-kubeconfig=F`.

Only the way to the agents is not the real one: their answers come by HTTP, where a real run has an exec over a WebSocket.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from pytest_k8snet.access.probes import Probe
    from pytest_k8snet.cluster.model import Cluster

FIGURES = "BENCHMARK_FIGURES"  # environment: folder where every process leaves its peak of memory
TIMES = "BENCHMARK_TIMES"  # environment: how often every check of nodes is judged, as if there were more of them


def pytest_k8snet_fake(config: pytest.Config) -> Any:
    """Return the simulated cluster that the kubeconfig names."""
    from pytest_k8snet.backend import PodBackend
    from pytest_k8snet.state import SETTINGS_KEY

    class SimulatedBackend(PodBackend):
        """Inventory, probe pods and Services by the real code."""

        def open_access(self, cluster: Cluster, probes: Mapping[str, Probe]) -> SimulatedAccess:
            """Go by HTTP."""
            del cluster, probes
            return SimulatedAccess(self._api.server)

    return SimulatedBackend(replace(config.stash[SETTINGS_KEY], access="pod"), lambda values: None)


class SimulatedAccess:
    """The way to the agents."""

    def __init__(self, url: str) -> None:
        import urllib3

        self._pool = urllib3.connection_from_url(url, maxsize=32)

    def host(self, node: str) -> SimulatedAgent:
        """Return the node's agent."""
        return SimulatedAgent(self._pool, node, "host")

    def pod(self, node: str) -> SimulatedAgent:
        """Return the agent in the node's probe pod."""
        return SimulatedAgent(self._pool, node, "pod")

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class SimulatedAgent:
    """One agent."""

    def __init__(self, pool: Any, node: str, role: str) -> None:
        self._pool = pool
        self._path = f"/agents/{quote(node, safe='')}/{role}"
        self.where = f"{node} ({role})"

    def request(self, op: str, params: Mapping[str, Any] | None = None, *, timeout_s: float) -> Any:
        """Ask the simulation, with the same JSON both ways as the real one."""
        import urllib3

        from pytest_k8snet.errors import ExecTransportError
        from pytest_k8snet.json_text import parse_json

        try:
            response = self._pool.request("POST", f"{self._path}/{op}", body=json.dumps(params or {}), timeout=timeout_s)
        except urllib3.exceptions.HTTPError as error:
            raise ExecTransportError(f"{self.where}: {error}") from error
        if response.status != 200:
            raise ExecTransportError(f"{self.where}: HTTP {response.status}: {response.data[:500].decode()}")
        return parse_json(response.data)

    def close(self) -> None:
        """Nothing is open."""


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> list[pytest.Item] | None:
    """Make every check several ones, with ids of their own, but for those that come last."""
    from pytest_k8snet import plugin
    from pytest_k8snet.measure.registry import MEASUREMENTS

    last = {check for measurement in MEASUREMENTS.values() for check in measurement.last}
    made = plugin.pytest_pycollect_makeitem(collector, name, obj) or []
    items: list[pytest.Item] = [*made]
    for copy in range(2, int(os.environ.get(TIMES, "1")) + 1):
        for item in made if made and made[0].shared.check.id not in last else ():
            shared = replace(item.shared, name=f"{name}_{copy}", check=replace(item.shared.check, id=f"{item.shared.check.id}-{copy}"))
            items.append(type(item).from_parent(collector, name=f"{name}_{copy}[{item.param}]", shared=shared, subject=item.param))
    return items or None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave word of this process's peak of memory."""
    folder = os.environ.get(FIGURES)
    if folder:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        name = getattr(config, "workerinput", {}).get("workerid", "controller")
        (Path(folder) / name).write_text(str(peak), encoding="utf-8")
