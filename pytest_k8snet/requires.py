"""What ``k8snet_requires`` asks of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_k8snet.errors import ConfigurationError

if TYPE_CHECKING:
    import pytest

    from pytest_k8snet.run import Run


def unmet(mark: pytest.Mark, run: Run) -> str | None:
    """Return why the check does not apply, None when it does."""
    unknown = set(mark.kwargs) - {"proxy_mode", "encapsulation", "nodes"}
    if mark.args or unknown:
        raise ConfigurationError(
            f"@pytest.mark.k8snet_requires: got {mark.args or sorted(unknown)}, want proxy_mode=, encapsulation= or nodes="
        )
    common = run.expectations.common
    for name, wanted in (("proxy_mode", common.proxy.mode), ("encapsulation", common.encapsulation.kind)):
        if name in mark.kwargs and (wanted is None or wanted.value != mark.kwargs[name]):
            return f"for {name.replace('_', ' ')} {mark.kwargs[name]} only; here it is {wanted or 'not known'}"
    nodes = mark.kwargs.get("nodes", 1)
    if len(run.plan.nodes) < nodes:
        return f"takes {nodes} nodes; there are {len(run.plan.nodes)}"
    return None
