"""Reads which ingress controllers and implementations of the Gateway API there are, and ingress-nginx' ConfigMap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_k8snet.cluster.claims.objects import Resource
from pytest_k8snet.cluster.claims.parsing import containers, flags, name_of, section, words
from pytest_k8snet.cluster.ingress import Ingress, NginxController
from pytest_k8snet.cluster.nginx_keys import JUDGED

LABEL = "app.kubernetes.io/name"
LABELLED = ("ingress-nginx", "rke2-ingress-nginx")
#: Names that its ConfigMap has where charts and manifests make it.
CONFIG_MAPS = ("ingress-nginx-controller", "nginx-configuration", "rke2-ingress-nginx-controller")

INGRESS_CLASS = Resource("IngressClass", "ingressclasses", (("networking.k8s.io", "v1"),))
GATEWAY_CLASS = Resource("GatewayClass", "gatewayclasses", (("gateway.networking.k8s.io", "v1"), ("gateway.networking.k8s.io", "v1beta1")))
RESOURCES = (INGRESS_CLASS, GATEWAY_CLASS)

DEPLOYMENTS = "Deployments with label app.kubernetes.io/name=ingress-nginx"


def controllers(workloads: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those workloads that are ingress-nginx: by label, and by the controller's own flags."""
    return [
        item
        for item in workloads
        if (item["metadata"].get("labels") or {}).get(LABEL) in LABELLED
        and any("nginx-ingress-controller" in word for container in containers(item) for word in words(container)[:6])
    ]


def config_map_of(workload: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return namespace and name of the ConfigMap that the controller's flag names."""
    own = str(workload["metadata"]["namespace"])
    for container in containers(workload):
        given = flags(words(container)).get("configmap", "").replace("$(POD_NAMESPACE)", own)
        if given:
            namespace, _, name = given.rpartition("/")
            return namespace or own, name
    return None


def read_ingress(
    workloads: Iterable[Mapping[str, Any]],
    config_maps: Mapping[tuple[str, str], Mapping[str, str]],
    custom: Mapping[str, Iterable[Mapping[str, Any]]],
    unreadable: Mapping[str, str],
) -> Ingress:
    """Read the objects."""
    nginx = []
    for item in workloads:
        key = config_map_of(item)
        data = None if key is None else config_maps.get(key)
        nginx.append(
            NginxController(
                name=name_of(item),
                image=next((str(container.get("image")) for container in containers(item)), ""),
                config_map=None if key is None else "/".join(key),
                keys=None if data is None else tuple(sorted(data)),
                values={name: value for name, value in (data or {}).items() if name in JUDGED},
            )
        )
    named = {f"ConfigMap {item.config_map}" for item in nginx} | {resource.kind for resource in RESOURCES} | {DEPLOYMENTS}
    return Ingress(
        nginx=tuple(nginx),
        classes={name_of(item): str(section(item, "spec").get("controller")) for item in custom.get(INGRESS_CLASS.kind, ())},
        gateways={name_of(item): str(section(item, "spec").get("controllerName")) for item in custom.get(GATEWAY_CLASS.kind, ())},
        unreadable={name: why for name, why in unreadable.items() if name in named},
    )
