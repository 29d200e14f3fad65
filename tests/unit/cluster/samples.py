"""Raw objects as an API server gives them."""

from __future__ import annotations

from typing import Any


def daemonset(
    name: str,
    *,
    namespace: str = "kube-system",
    desired: int = 3,
    args: list[str] | None = None,
    image: str = "x",
    env: dict[str, str] | None = None,
    **labels: str,
) -> dict[str, Any]:
    """Return a DaemonSet of one container."""
    container = {
        "name": "c",
        "image": image,
        "command": args or [],
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
    }
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"template": {"spec": {"containers": [container], "nodeSelector": {"kubernetes.io/os": "linux"}}}},
        "status": {"desiredNumberScheduled": desired, "numberReady": desired},
    }


def custom(name: str, **spec: Any) -> dict[str, Any]:
    """Return an object of the whole cluster with a spec."""
    return {"metadata": {"name": name}, "spec": spec}
