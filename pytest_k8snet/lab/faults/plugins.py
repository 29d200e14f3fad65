"""The lab's own CNI configuration of a node, as faults change it: it ignores keys that it does not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_k8snet.lab.faults.model import FaultyLab, FaultyNode
from pytest_k8snet.lab.node_files import CNI_CONFIGURATION


def read_plugins(lab: FaultyLab, node: FaultyNode) -> dict[str, Any]:
    """Return the configuration; the chain is under ``plugins``."""
    configuration: dict[str, Any] = json.loads(lab.run(node.name, ["cat", CNI_CONFIGURATION]).stdout)
    return configuration


def write_plugins(lab: FaultyLab, node: FaultyNode, configuration: dict[str, Any]) -> None:
    """Write it: pods made later have it."""
    lab.run(node.name, ["tee", CNI_CONFIGURATION], stdin=json.dumps(configuration, indent=2))


def give_pods(lab: FaultyLab, node: FaultyNode, sysctls: Mapping[str, str]) -> None:
    """Let the tuning plugin give pods that are made from now on these sysctls."""
    configuration = read_plugins(lab, node)
    for plugin in configuration["plugins"]:
        if plugin["type"] == "tuning":
            plugin["sysctl"] = {**sysctls}
    write_plugins(lab, node, configuration)
