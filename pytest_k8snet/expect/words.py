"""The words that people and CNIs have for encapsulations, and what a profile takes them for."""

from __future__ import annotations

import re

from pytest_k8snet.expect.model import CROSS_SUBNET

#: What a profile calls them.
ENCAPSULATIONS = ("none", "vxlan", "ipip", "geneve", "wireguard", *(f"{kind}{CROSS_SUBNET}" for kind in ("vxlan", "ipip", "geneve")))

_PLAIN = {re.sub("-", "", name): name for name in ENCAPSULATIONS}

#: Words of CNIs that mean one of them, without case and hyphens: Calico's Installation (None, IPIP, VXLAN, VXLANCrossSubnet) and IPPool
#: (Never), Cilium's routing-mode and tunnel, Flannel's backends, Antrea's trafficEncapMode.
_MEANT = {
    "never": "none",
    "native": "none",
    "disabled": "none",
    "hostgw": "none",
    "noencap": "none",
    "ipinip": "ipip",
}

_WHICH = "does not say in what packets are put; write vxlan, ipip, geneve or wireguard"

#: Words that may mean several, and what is to be written instead.
_UNCLEAR = {
    "always": f"is IPPool's word for one of ipipMode and vxlanMode and {_WHICH}",
    "crosssubnet": "is IPPool's word for one of ipipMode and vxlanMode; write vxlan-cross-subnet or ipip-cross-subnet",
    "encap": _WHICH,
    "tunnel": _WHICH,
    "overlay": _WHICH,
    "hybrid": "does not say in what packets between subnets are put; write vxlan-cross-subnet or geneve-cross-subnet",
    "bgp": "says how routes are told, with and without encapsulation; write none, or ipip or vxlan",
    "bird": "says how routes are told, with and without encapsulation; write none, or ipip or vxlan",
}


def encapsulation_meant(word: str) -> str:
    """Return what a profile calls the encapsulation that `word` means; a word that is not known is returned as it is.

    Raises `ValueError` for one that may mean several.
    """
    plain = re.sub(r"[-_ ]", "", word).lower()
    if plain in _UNCLEAR:
        raise ValueError(f"{word!r} {_UNCLEAR[plain]}")
    return _PLAIN.get(plain) or _MEANT.get(plain, word)
