"""Copies documents from the run folders that the lab tests left: `python -m tests.recordings.keep build/lab`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.lab.test_ipvs_native import TOGETHER
from tests.lab.test_no_proxy import LEFT_OVER

HERE = Path(__file__).parent
KINDS = ("cluster", "facts", "ipvs", "throughput")
TUNED = ("lab", "tuned-node")
IPVS = (*TUNED, "ipvs", "native")
NONE = (*TUNED, "kube-proxy-free", "native")


def keep(results: Path) -> None:
    """Copy the healthy runs, and those with faults."""
    keep_one(results / "test_ipvs_native/healthy", "ipvs-native", IPVS)
    keep_one(results / "iptables_vxlan/healthy", "iptables-vxlan", (*TUNED, "iptables", "vxlan"))
    keep_one(results / "test_no_proxy/healthy", "no-proxy", NONE)
    for number, faults in enumerate(TOGETHER, start=1):
        keep_one(results / "test_ipvs_native" / "+".join(faults), f"ipvs-faults-{number}", IPVS, faults)
    keep_one(results / "test_no_proxy" / "+".join(LEFT_OVER), "left-over", NONE, LEFT_OVER)


def keep_one(run: Path, name: str, profiles: tuple[str, ...], faults: Mapping[str, str] | None = None) -> None:
    """Copy one run's documents, without the path of the kubeconfig that it was made with."""
    place = HERE / name
    if place.exists():
        shutil.rmtree(place)
    for kind in KINDS:
        for source in sorted((run / kind).glob("*.json")):
            document = json.loads(source.read_text())
            if kind == "cluster":
                document["method"] = "API of a lab"
            target = place / kind / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(document, indent=1) + "\n")
    pairs = json.loads((run / "plan.json").read_text())["load_pairs"]
    about = {"profiles": list(profiles), "faults": dict(faults or {}), "load_pairs": len(pairs)}
    (place / "recording.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
