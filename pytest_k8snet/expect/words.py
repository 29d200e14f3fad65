"""The words that people and CNIs have for encapsulations, and what a profile takes them for."""

from __future__ import annotations

import re

#: What a profile calls them.
ENCAPSULATIONS = ("none", "vxlan", "ipip", "geneve", "wireguard")

#: Words of CNIs that mean one of them, without case and hyphens: Calico's Installation (None, IPIP, VXLAN) and IPPool (Never), Cilium's
#: routing-mode and tunnel, Flannel's backends, Antrea's trafficEncapMode.
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
    "crosssubnet": f"is IPPool's word for one of ipipMode and vxlanMode and {_WHICH}, if all packets between nodes are",
    "encap": _WHICH,
    "tunnel": _WHICH,
    "overlay": _WHICH,
    "hybrid": f"{_WHICH}, if all packets between nodes are",
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
    return plain if plain in ENCAPSULATIONS else _MEANT.get(plain, word)
