"""Faults of the lab's ingress: settings taken back, so that nginx has its own defaults, and one by which it follows less than it should."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import ingress
from pytest_k8snet.lab.faults.model import ANY_PROXY_MODE, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until

CLIENT_REQUESTS = "100"  # nginx' default before 1.19.10


WITH_SERVICES = tuple(mode for mode in ANY_PROXY_MODE if mode != "none")
ASK = "import sys, urllib.request as r; print(r.urlopen(f'http://{sys.argv[1]}/healthz', timeout=5).read().decode())"


def _change(values: Mapping[str, str | None], lab: FaultyLab, node: FaultyNode) -> None:
    """Change settings of the ingress, which is the whole lab's, and wait until nginx has them: what a node asks it says so."""
    found = dict(lab.read_object(ingress.settings({})).get("data") or {})
    wanted = {key: value for key, value in {**found, **values}.items() if value is not None}
    lab.apply_object(ingress.settings(wanted))
    address = str(lab.read_object(ingress.service())["spec"]["clusterIP"])
    wait_until(lambda: _in_force(lab, node, address) == wanted, "nginx to take in its new settings")


def _in_force(lab: FaultyLab, node: FaultyNode, address: str) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads(lab.run(node.name, ["python3", "-c", ASK, address]).stdout)
    except (LabError, ValueError):
        return None
    return found


def _setting(name: str, check: str, summary: str, **values: str | None) -> Fault:
    wanted = {key.replace("_", "-"): value for key, value in values.items()}
    apply: Callable[[FaultyLab, FaultyNode], None] = partial(_change, wanted)
    revert: Callable[[FaultyLab, FaultyNode], None] = partial(_change, {key: ingress.TUNED.get(key) for key in wanted})
    turns = (Turns(check, subject="cluster"),)
    return Fault(
        name, area="ingress", summary=summary, turns=turns, apply=apply, revert=revert, proxy_modes=WITH_SERVICES, with_ingress=True
    )


FAULTS = (
    _setting(
        "ingress-of-one-namespace",
        "NET-INGRESS-004",
        "the controller follows Ingresses of one namespace alone (ingress-nginx: --watch-namespace)",
        watch_namespace="default",
    ),
    _setting(
        "ingress-without-kept-connections",
        "NET-INGRESS-005",
        "nginx asks pods as it does by default: every request over a connection of its own",
        upstream_keepalive_connections=None,
    ),
    _setting(
        "ingress-closing-clients",
        "NET-INGRESS-006",
        "nginx closes clients' connections after 100 requests, its default before 1.19.10",
        keep_alive_requests=CLIENT_REQUESTS,
    ),
    _setting(
        "ingress-small-buffers",
        "NET-INGRESS-007",
        "nginx has its default buffers for headers, of 8 and 4 KiB",
        large_client_header_buffers=None,
        proxy_buffer_size=None,
    ),
    _setting(
        "ingress-endpoints-late",
        "NET-INGRESS-009",
        "the controller takes in a minute late that other pods are behind a Service",
        endpoints_delay="60",
    ),
    _setting("ingress-without-hsts", "NET-INGRESS-008", "nginx adds no Strict-Transport-Security", hsts_max_age=None),
)
