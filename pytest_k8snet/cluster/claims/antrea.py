"""Antrea: antrea-agent.conf in its ConfigMap (docs/noencap-hybrid-modes.md, docs/traffic-encryption.md)."""

from __future__ import annotations

from pytest_k8snet.cluster.claims.objects import Found, Objects
from pytest_k8snet.cluster.claims.parsing import bytes_of, is_true, read_settings, section

NAME = "antrea"
DAEMONSETS = ("antrea-agent",)
NAMESPACE = "kube-system"
CONFIG_MAPS = ("antrea-config",)
_KEY = "antrea-agent.conf"

MODES = {"encap": "Always", "noencap": "Never", "hybrid": "CrossSubnet"}  # taken in any case
POLICY_ONLY = "networkpolicyonly"  # another CNI carries the packets
TUNNELS = ("geneve", "vxlan", "gre", "stt")
ENCRYPTIONS = ("none", "ipSec", "wireGuard")  # in any case


def read(objects: Objects, found: Found) -> None:
    """Read encapsulation and MTU."""
    for name, data in objects.maps(*CONFIG_MAPS):
        if _KEY not in data:
            continue
        source = f"{name} {_KEY}"
        settings = read_settings(data[_KEY], source, "AgentConfig")
        mode = str(settings.get("trafficEncapMode") or "encap")
        tunnel = str(settings.get("tunnelType") or "geneve")
        encryption = str(settings.get("trafficEncryptionMode") or "none")
        if encryption.lower() not in map(str.lower, ENCRYPTIONS):
            found.mistake(f"{source} trafficEncryptionMode", encryption, ENCRYPTIONS)
            encryption = "none"
        if tunnel not in TUNNELS:
            found.mistake(f"{source} tunnelType", tunnel, TUNNELS)
        elif mode.lower() in MODES:
            scope = MODES[mode.lower()]
            told = f"{source} trafficEncapMode" + ("" if settings.get("trafficEncapMode") else " (encap is the default)")
            # It encrypts in mode encap alone: WireGuard goes in the tunnel's place, and ESP hides what tunnel it is.
            if encryption.lower() == "none" or scope != "Always":
                found.encapsulate(tunnel, scope, told)
            else:
                found.claim("encrypted", encryption.lower(), f"{source} trafficEncryptionMode")
        elif mode.lower() != POLICY_ONLY:
            found.mistake(f"{source} trafficEncapMode", mode, ("encap", "noEncap", "hybrid", "networkPolicyOnly"))
        if settings.get("defaultMTU"):
            found.claim("mtu.pod", bytes_of(settings["defaultMTU"], f"{source} defaultMTU"), f"{source} defaultMTU")


def replaces_kube_proxy(objects: Objects, found: Found) -> str | None:
    """Return which setting has Antrea serve all Services; without it kube-proxy serves those that the node itself asks."""
    del found
    for name, data in objects.maps(*CONFIG_MAPS):
        settings = read_settings(data.get(_KEY, ""), f"{name} {_KEY}", "AgentConfig")
        if is_true(section(settings, "antreaProxy").get("proxyAll")):
            return f"{name} {_KEY} antreaProxy.proxyAll"
    return None
