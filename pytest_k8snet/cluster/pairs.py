"""Names of ordered pairs of nodes. Apart from the cluster's model: every run of pytest where the plugin is installed imports this."""

from __future__ import annotations


def pair_name(source: str, target: str) -> str:
    """Return the name of an ordered pair of nodes, ``a:b``. A colon within a node's name, which no real API allows, is written ``%3A``."""
    return ":".join(node.replace("%", "%25").replace(":", "%3A") for node in (source, target))


def pair_nodes(subject: str) -> tuple[str, ...]:
    """Return the two nodes of a pair's name; of a node's name that one."""
    if subject.count(":") != 1:
        return (subject,)
    source, target = (node.replace("%3A", ":").replace("%25", "%") for node in subject.split(":"))
    return source, target
