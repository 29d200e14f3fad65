"""Kubeconfig files, with everything in them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_k8snet.lab.pki import Pair


def kubeconfig(*, cluster: str, user: str, server: str, authority: bytes, pair: Pair) -> str:
    """Give a kubeconfig for one user of one cluster; JSON, which is YAML."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": _base64(authority)}}],
        "users": [{"name": user, "user": {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}}],
        "contexts": [{"name": f"{user}@{cluster}", "context": {"cluster": cluster, "user": user}}],
        "current-context": f"{user}@{cluster}",
    }
    return json.dumps(document, indent=2) + "\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
