"""Faults of the lab's ingress: settings taken back, so that nginx has its own defaults, ones that it does not know, or does not take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import ingress
from pytest_k8snet.lab.faults.model import ANY_KUBE_PROXY, Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.ingress_controller import ANNOTATION, REFUSED, settings_of

NOT_A_KEY = ("watch-namespace", "endpoints-delay")
CLIENT_REQUESTS = "100"  # nginx' default before 1.19.10


ASK = "import sys, urllib.request as r; print(r.urlopen(f'http://{sys.argv[1]}/healthz', timeout=5).read().decode())"


def _change(values: Mapping[str, str | None], lab: FaultyLab, node: FaultyNode, *, taken: bool = True) -> None:
    """Change settings of the ingress, which is the whole lab's, and wait until nginx has them: what a node asks it says so.

    Those of `NOT_A_KEY` are annotations. Ones that are not `taken` nginx refuses, and that is waited for.
    """
    found = settings_of(lab.read_object(ingress.settings({})))
    wanted = {key: value for key, value in {**found, **values}.items() if value is not None}
    annotations = {f"{ANNOTATION}{key}": value for key, value in wanted.items() if key in NOT_A_KEY}
    before = None if taken else _last_said(lab, node)
    lab.apply_object(ingress.settings({key: value for key, value in wanted.items() if key not in NOT_A_KEY}, annotations))
    if before is not None:
        wait_until(lambda: REFUSED in (said := _last_said(lab, node)) and said != before, "nginx to refuse its new settings")
        return
    address = str(lab.read_object(ingress.service())["spec"]["clusterIP"])
    wait_until(lambda: _in_force(lab, node, address) == wanted, "nginx to take in its new settings")


def _last_said(lab: FaultyLab, node: FaultyNode) -> str:
    """Return the last line that the controller has written, which runs on this node."""
    try:
        return lab.run(node.name, ["sh", "-c", f"tail -qn1 /var/log/pods/{ingress.NAMESPACE}_*/nginx/*.log"]).stdout
    except LabError as error:
        raise LabError(f"{node.name}: the ingress' nginx does not run there but on {lab.nodes[-1].name}: break that node") from error


def _in_force(lab: FaultyLab, node: FaultyNode, address: str) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads(lab.run(node.name, ["python3", "-c", ASK, address]).stdout)
    except (LabError, ValueError):
        return None
    return found


def _setting(name: str, checks: tuple[str, ...], summary: str, **values: str | None) -> Fault:
    wanted = {key.replace("_", "-"): value for key, value in values.items()}
    apply: Callable[[FaultyLab, FaultyNode], None] = partial(_change, wanted)
    turns = tuple(Turns(check, subject="cluster") for check in checks)
    return Fault(
        name, area="ingress", summary=summary, turns=turns, apply=apply, revert=_back(wanted), proxy_modes=ANY_KUBE_PROXY, with_ingress=True
    )


def _back(values: Mapping[str, str | None]) -> Callable[[FaultyLab, FaultyNode], None]:
    return partial(_change, {key: ingress.TUNED.get(key) for key in values})


REFUSED_BY_NGINX = {"keep-alive-requests": "5000", "large-client-header-buffers": "4 64kb"}  # nginx knows k, and no kb

FAULTS = (
    _setting(
        "ingress-of-one-namespace",
        ("NET-INGRESS-004",),
        "the controller follows Ingresses of one namespace alone (ingress-nginx: --watch-namespace)",
        watch_namespace="default",
    ),
    _setting(
        "ingress-without-kept-connections",
        ("NET-INGRESS-005",),
        "nginx asks pods as it does by default: every request over a connection of its own",
        upstream_keepalive_connections=None,
    ),
    _setting(
        "ingress-closing-clients",
        ("NET-INGRESS-006", "NET-INGRESS-002"),
        "nginx closes clients' connections after 100 requests, its default before 1.19.10",
        keep_alive_requests=CLIENT_REQUESTS,
    ),
    _setting(
        "ingress-small-buffers",
        ("NET-INGRESS-007",),
        "nginx has its default buffers for headers, of 8 and 4 KiB",
        large_client_header_buffers=None,
        proxy_buffer_size=None,
    ),
    _setting(
        "ingress-endpoints-late",
        ("NET-INGRESS-009",),
        "the controller takes in a minute late that other pods are behind a Service",
        endpoints_delay="60",
    ),
    _setting("ingress-without-hsts", ("NET-INGRESS-008",), "nginx adds no Strict-Transport-Security", hsts_max_age=None),
    _setting(
        "ingress-unknown-key",
        ("NET-INGRESS-001",),
        "the ConfigMap has proxy-buffers, a directive of nginx, which is no key of ingress-nginx",
        proxy_buffers="8 32k",
    ),
    Fault(
        "ingress-reload-refused",
        area="ingress",
        summary="the ConfigMap has a value that nginx refuses: the file with the old ones stays in force (on the node where nginx runs)",
        turns=(Turns("NET-INGRESS-010"),),
        apply=partial(_change, REFUSED_BY_NGINX, taken=False),
        revert=_back(REFUSED_BY_NGINX),
        proxy_modes=ANY_KUBE_PROXY,
        with_ingress=True,
    ),
)
