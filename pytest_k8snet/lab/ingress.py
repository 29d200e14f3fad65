"""The lab's ingress: a real nginx in a pod, and a small controller beside it, which stands in for ingress-nginx.

It has that one's label, flag and ConfigMap, so that what reads those of ingress-nginx reads its. It follows Ingresses of the class
``nginx`` and HTTPRoutes of the Gateway ``ingress/nginx``. The kinds of the Gateway API are there without the schema that its makers' have.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.lab import ingress_controller
from pytest_k8snet.lab.accounts import account
from pytest_k8snet.lab.addresses import API_PORT
from pytest_k8snet.lab.pki import Authority

if TYPE_CHECKING:
    from pytest_k8snet.lab.addresses import AddressPlan

NAMESPACE = "ingress"
NAME = "ingress"  # of Service, Deployment and account
SETTINGS = "ingress-nginx-controller"  # the ConfigMap, called as by ingress-nginx' own manifests
CLASS = "nginx"
CONTROLLER = "k8snet.lab/nginx"
GATEWAY_GROUP = "gateway.networking.k8s.io"
GATEWAY_KINDS = {"Gateway": "gateways", "HTTPRoute": "httproutes"}
PROGRAM = "ingress-program"
PROGRAM_FILE = "nginx-ingress-controller.py"
TLS = "ingress-tls"
LABELS = {"app": NAME}
KNOWN_BY = {"app.kubernetes.io/name": "ingress-nginx"}
PORTS = {"http": 80, "https": 443}

TUNED = {
    "upstream-keepalive-connections": "320",
    "keep-alive-requests": "1000",
    "large-client-header-buffers": "4 32k",
    "proxy-buffer-size": "32k",
    "hsts-max-age": "31536000",
}
"""The settings of a healthy lab, by the keys of ingress-nginx. Without one nginx has its own default."""


def manifests(plan: AddressPlan, image: str) -> Iterator[Mapping[str, Any]]:
    """Give the objects, in an order in which they can be made."""
    rules = [
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["list", "watch"]},
        {"apiGroups": [GATEWAY_GROUP], "resources": ["httproutes"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]},
    ]
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    yield from (_definition(kind, plural) for kind, plural in GATEWAY_KINDS.items())
    yield from account(NAMESPACE, NAME, rules)
    yield _object("v1", "ConfigMap", PROGRAM, data={PROGRAM_FILE: Path(ingress_controller.__file__).read_text()})
    yield settings(TUNED)
    pair = Authority("ingress of the lab").issue("ingress", dns=["*.k8snet.invalid"])
    content = {"tls.crt": base64.b64encode(pair.certificate).decode(), "tls.key": base64.b64encode(pair.key).decode()}
    yield _object("v1", "Secret", TLS, type="kubernetes.io/tls", data=content)
    spec = {"controller": CONTROLLER}
    yield {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": CLASS}, "spec": spec}
    yield service()
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}]
    gateway = {"gatewayClassName": CLASS, "listeners": listeners}
    yield _object(f"{GATEWAY_GROUP}/v1", "Gateway", CLASS, spec=gateway)
    yield _deployment(plan, image)


def _definition(kind: str, plural: str) -> dict[str, Any]:
    """Give what makes a kind of the Gateway API known, with any content."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GATEWAY_GROUP}",
            # The group is protected: whoever defines kinds of it says who agreed.
            "annotations": {"api-approved.kubernetes.io": "unapproved, a lab"},
        },
        "spec": {"group": GATEWAY_GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def service() -> dict[str, Any]:
    """Give the Service that leads to nginx."""
    ports = [{"name": name, "port": port} for name, port in PORTS.items()]
    return _object("v1", "Service", NAME, spec={"selector": LABELS, "ports": ports})


def settings(values: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Give the ConfigMap of settings, and of what has no key there."""
    config_map = _object("v1", "ConfigMap", SETTINGS, data=dict(values))
    config_map["metadata"]["annotations"] = dict(annotations or {})
    return config_map


def _object(version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"namespace": NAMESPACE, "name": name}, **content}


def _deployment(plan: AddressPlan, image: str) -> dict[str, Any]:
    environment = {
        "KUBERNETES_SERVICE_HOST": plan.api_address,  # its own address, so that it does not wait for kube-proxy
        "KUBERNETES_SERVICE_PORT": str(API_PORT),
        "POD_NAMESPACE": NAMESPACE,
        "INGRESS_CLASS": CLASS,
        "GATEWAY": f"{NAMESPACE}/{CLASS}",
    }
    container = {
        "name": "nginx",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-I", "-u", f"/etc/ingress/{PROGRAM_FILE}"],
        "args": [f"--configmap=$(POD_NAMESPACE)/{SETTINGS}"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}, "periodSeconds": 2, "timeoutSeconds": 5},
        "volumeMounts": [
            {"name": "program", "mountPath": "/etc/ingress", "readOnly": True},
            {"name": "tls", "mountPath": "/etc/ingress-tls", "readOnly": True},
        ],
    }
    pod = {
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"kubernetes.io/hostname": plan.nodes[-1].name},  # the same at every start
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "program", "configMap": {"name": PROGRAM}}, {"name": "tls", "secret": {"secretName": TLS}}],
    }
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    deployment = _object("apps/v1", "Deployment", NAME, spec={"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template})
    deployment["metadata"]["labels"] = {**LABELS, **KNOWN_BY}
    return deployment
