"""Removes everything that a kube-proxy has written into a node's kernel, whatever its mode was.

`kube-proxy --cleanup` (1.37) fails half way where chains of two modes refer to each other. Nobody else writes rules on a lab's node but
the kubelet, which writes its own again.
"""

from __future__ import annotations

from pytest_k8snet.lab.faults.model import FaultyLab, FaultyNode

_FLUSH = """
for family in ip ip6; do
    for table in $(cat /proc/net/${family}_tables_names 2>/dev/null); do
        ${family}tables-legacy -w -t $table -F
        ${family}tables-legacy -w -t $table -X
    done
done
if [ -e /proc/net/ip_vs ]; then ipvsadm -C; fi
if ip link show kube-ipvs0 >/dev/null 2>&1; then ip link delete kube-ipvs0; fi
ipset destroy
"""


def flush(lab: FaultyLab, node: FaultyNode) -> None:
    """Remove chains, virtual servers, ipsets and kube-ipvs0 of a node on which no kube-proxy runs."""
    lab.run(node.name, ["sh", "-ec", _FLUSH])
