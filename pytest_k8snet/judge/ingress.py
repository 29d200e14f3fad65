"""Judge what can be read of ingress: keys that the controller does not know, values against the profile, and what is out of support."""

from __future__ import annotations

import difflib

from pytest_k8snet.cluster.ingress import NGINX, Ingress, NginxController
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.nginx_keys import JUDGED, KEYS, MEANT
from pytest_k8snet.expect.model import IngressExpectation, SysctlWant
from pytest_k8snet.judge.model import Judgement

#: Implementations of the Gateway API by the beginning of their controllerName.
GATEWAYS = {
    "gateway.envoyproxy.io/": "Envoy Gateway",
    "io.cilium/": "Cilium",
    "istio.io/": "Istio",
    "traefik.io/": "Traefik",
    "gateway.nginx.org/": "NGINX Gateway Fabric",
    "konghq.com/": "Kong",
    "haproxy.org/": "HAProxy",
    "haproxy-ingress.github.io/": "HAProxy Ingress",
    "projectcontour.io/": "Contour",
    "networking.gke.io/": "GKE Gateway",
    "gateway.k8s.aws/": "AWS Load Balancer Controller",
    "application-networking.k8s.aws/": "AWS Gateway API Controller",
    "alb.networking.azure.io/": "Azure Application Gateway for Containers",
    "kgateway.dev/": "kgateway",
    "tigera.io/": "Calico (Envoy Gateway)",
    "eg.tigera.io/": "Calico (Envoy Gateway)",
}


def known_keys(cluster: Cluster) -> Judgement:
    """Judge that ingress-nginx knows every key of its ConfigMap: others it drops without a word."""
    found = _nginx(cluster)
    if isinstance(found, Judgement):
        return found
    judgement = Judgement(want="keys that ingress-nginx knows")
    for controller in found.nginx:
        for key in _keys(judgement, controller, found):
            meant = MEANT.get(key) or next(iter(difflib.get_close_matches(key, KEYS, 1, 0.85)), None)
            judgement.check(
                key in KEYS,
                f"ConfigMap {controller.config_map}: {controller.name} does not know the key {key} and ignores it"
                + (f"; {meant} is one" if meant else ""),
                command=_get(controller),
            )
    return judgement


def settings(cluster: Cluster, expect: IngressExpectation) -> Judgement:
    """Judge connections, buffers and HSTS of ingress-nginx against the profile; keys that are not set have the controller's own values."""
    found = _nginx(cluster)
    if isinstance(found, Judgement):
        return found
    if not expect.settings:
        judgement = Judgement.skipped("no profile wants a setting of ingress")
        for controller in found.nginx:
            if controller.values.get("upstream-keepalive-connections") == "0":
                judgement.advise(
                    f"ConfigMap {controller.config_map}: upstream-keepalive-connections 0: {controller.name} opens a connection to a pod "
                    "for every request"
                )
        return judgement
    judgement = Judgement(want="; ".join(f"{want.key} {want}" for want in expect.settings))
    for controller in found.nginx:
        if controller.keys is None:
            _keys(judgement, controller, found)
            continue
        for want in expect.settings:
            have = controller.values.get(want.key, JUDGED[want.key])
            judgement.check(
                _holds(have, want),
                f"{controller.name}: {want.key} {have or '(empty)'}{'' if want.key in controller.values else ' by default'}, want {want}",
                measured=have,
                wanted=want.value,
                command=_get(controller),
            )
    return judgement


def support(cluster: Cluster) -> Judgement:
    """Name what brings requests into the cluster, and advise against what is out of support."""
    if cluster.ingress is None:
        return _not_recorded()
    found = cluster.ingress
    controllers = {**found.classes, **found.gateways}
    if not controllers and not found.nginx:
        if why := next(iter(found.unreadable.values()), None):
            return Judgement.beyond_reach(f"ingress controllers are not known: {why}")
        return Judgement.skipped("the cluster has no IngressClass, no GatewayClass and no ingress-nginx")
    judgement = Judgement(want="controllers that are maintained", checked=1)
    judgement.evidence.update(classes=dict(found.classes), gateways={name: _implementation(by) for name, by in found.gateways.items()})
    of_nginx = sorted(name for name, controller in found.classes.items() if controller == NGINX)
    for name in [item.name for item in found.nginx] or of_nginx:
        judgement.advise(
            f"{name} is ingress-nginx, which is retired: the last releases are 1.15.1, 1.14.5 and 1.13.9 of March 2026, its repository is "
            "archived, and no fix of a vulnerability will come; a Gateway API implementation replaces it (ingress2gateway converts)"
        )
    for name, controller in sorted(found.gateways.items()):
        if _implementation(controller) is None:
            judgement.remark(f"GatewayClass {name} is of {controller}, an implementation that is not known here")
    return judgement


def _nginx(cluster: Cluster) -> Ingress | Judgement:
    if cluster.ingress is None:
        return _not_recorded()
    if not cluster.ingress.nginx:
        if why := next(iter(cluster.ingress.unreadable.values()), None):
            return Judgement.beyond_reach(f"whether the cluster has ingress-nginx is not known: {why}")
        return Judgement.skipped("the cluster has no ingress-nginx")
    return cluster.ingress


def _keys(judgement: Judgement, controller: NginxController, found: Ingress) -> tuple[str, ...]:
    """Return the keys of a controller's ConfigMap; one that is not there is the controller's defaults."""
    if controller.keys is not None:
        judgement.checked += not controller.keys
        return controller.keys
    why = found.unreadable.get(f"ConfigMap {controller.config_map}")
    if why is not None:
        judgement.error(f"{controller.name}: ConfigMap {controller.config_map} was not read: {why}")
    else:
        judgement.checked += 1
        judgement.remark(f"{controller.name}: there is no ConfigMap {controller.config_map or 'named by its flags'}: everything is default")
    return ()


def _holds(have: str, want: SysctlWant) -> bool:
    if want.operator == "=":
        return have.split() == want.value.split()
    return have.isdecimal() and (int(have) >= int(want.value) if want.operator == ">=" else int(have) <= int(want.value))


def _implementation(controller: str) -> str | None:
    return next((name for start, name in GATEWAYS.items() if controller.startswith(start)), None)


def _get(controller: NginxController) -> str:
    namespace, _, name = (controller.config_map or "").partition("/")
    return f"kubectl -n {namespace} get configmap {name} -o yaml"


def _not_recorded() -> Judgement:
    return Judgement.beyond_reach("the record is of a version that did not read the cluster's ingress")
