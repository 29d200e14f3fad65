"""Copies what a replay takes from the run folders that the lab tests left: `python -m tests.recordings.keep build/lab`.

What was not run is not there, and stays as it was. The times of runs on broken labs go into docs/faults.json.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from pytest_k8snet.lab.faults.matrix import merged, read_rows, write_rows
from pytest_k8snet.lab.faults.table import FAULTS
from pytest_k8snet.measure.registry import MEASUREMENTS
from pytest_k8snet.options import DECIDING
from pytest_k8snet.record.store import RUN
from tests.lab.iptables_vxlan.test_suite import TOGETHER as TOGETHER_ON_IPTABLES
from tests.lab.suite import MATRIX
from tests.lab.test_cilium import TOGETHER as TOGETHER_ON_CILIUM
from tests.lab.test_dual import TOGETHER as TOGETHER_OF_IPV6
from tests.lab.test_ipvs_native import TOGETHER
from tests.lab.test_networks import NETWORKS
from tests.lab.test_nftables import TOGETHER as TOGETHER_ON_NFTABLES
from tests.lab.test_no_proxy import LEFT_OVER
from tests.lab.test_policy import TOGETHER as TOGETHER_OF_POLICIES

HERE = Path(__file__).parent
TIMES = HERE.parents[1] / "docs" / "faults.json"
OWN_PROFILE = re.compile(r"/[^\s\"]*/(tests/lab/\w+\.yaml)")  # of the lab tests, wherever they were run
FILES = ("run", "plan", "probes", "profiles")
KINDS = (*sorted(MEASUREMENTS), "cluster", "shared")


def keep(results: Path) -> None:
    """Copy the healthy runs, and those with faults."""
    keep_one(results / "test_ipvs_native/healthy", "ipvs-native")
    keep_one(results / "test_ipvs_native/ssh", "by-ssh")
    keep_one(results / "iptables_vxlan/healthy", "iptables-vxlan")
    keep_one(results / "iptables_vxlan/namespace", "iptables-ingress")
    for title, faults in TOGETHER_ON_IPTABLES.items():
        keep_one(results / "iptables_vxlan" / "+".join(faults), f"iptables-faults-{title}", faults)
    keep_one(results / "test_no_proxy/healthy", "no-proxy")
    for title, faults in TOGETHER.items():
        keep_one(results / "test_ipvs_native" / "+".join(faults), f"ipvs-faults-{title}", faults)
    keep_one(results / "test_no_proxy" / "+".join(LEFT_OVER), "left-over", LEFT_OVER)
    keep_one(results / "test_nftables/healthy", "nftables")
    keep_one(results / "test_nftables" / "+".join(TOGETHER_ON_NFTABLES), "nftables-faults-1", TOGETHER_ON_NFTABLES)
    keep_one(results / "test_policy/healthy", "ipvs-policy")
    for name, of_policies in zip(("ipvs-faults-policy", "ipvs-faults-policy-part"), TOGETHER_OF_POLICIES, strict=True):
        keep_one(results / "test_policy" / "+".join(of_policies), name, of_policies)
    keep_one(results / "test_dual/dual", "dual")
    for number, of_ipv6 in enumerate(TOGETHER_OF_IPV6, start=1):
        keep_one(results / "test_dual" / "+".join(of_ipv6), f"dual-faults-{number}", of_ipv6)
    keep_one(results / "test_dual/dual-iptables", "dual-iptables")
    keep_one(results / "test_dual/ipv6", "ipv6")
    keep_one(results / "test_cilium/healthy", "cilium")
    for number, together in enumerate(TOGETHER_ON_CILIUM, start=1):
        keep_one(results / "test_cilium" / "+".join(together), f"cilium-faults-{number}", together)
    keep_one(results / "test_cilium_vxlan/healthy", "cilium-vxlan")
    for kind, network in NETWORKS.items():
        keep_one(results / "test_networks" / kind / "healthy", kind)
        for number, broken in enumerate(network.faults, start=1):
            keep_one(results / "test_networks" / kind / "+".join(broken), f"{kind}-faults-{number}", broken)
    exact = [row for row in read_rows(results / MATRIX.name) if not row.missing and not row.beyond]
    write_rows(TIMES, merged(read_rows(TIMES), exact, faults=[known.name for known in FAULTS]))


def keep_one(run: Path, name: str, faults: Mapping[str, str] | None = None) -> None:
    """Copy what a replay takes from one run, without the paths of the machine that it was made on."""
    place = HERE / name
    if not run.exists():
        return
    if place.exists():
        shutil.rmtree(place)
    sources = [run / f"{file}.json" for file in FILES] + [source for kind in KINDS for source in sorted((run / kind).glob("*.json"))]
    for source in sources:
        content = json.loads(OWN_PROFILE.sub(r"\1", source.read_text()))
        if source.parent.name == "cluster":
            content["method"] = "API of a lab"
        if source.name == RUN:
            content["settings"] = {key: value for key, value in content["settings"].items() if key.replace("-", "_") in DECIDING}
            content["results"] = None
        write(place / source.relative_to(run), content)
    write(place / "recording.json", {"faults": dict(faults or {})})


def write(target: Path, content: object) -> None:
    """Write a file as run folders have it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
