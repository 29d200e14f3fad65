from __future__ import annotations

from pathlib import Path

from pytest_k8snet.cluster.model import Claim
from pytest_k8snet.expect.begin import Readings, begun_text
from pytest_k8snet.expect.profile import load_profiles
from pytest_k8snet.expect.source import Location


def test_what_is_agreed_is_wanted_and_the_rest_is_said(tmp_path: Path) -> None:
    readings: dict[Location, Readings] = {
        ("proxy", "mode"): Readings({"ipvs": ["a", "c"], "iptables": ["b"]}, {"it is\ngone": ["d"]}),
        ("encapsulation",): Readings({"none": ["a", "b", "c", "d"]}),
        ("mtu", "pod"): Readings({1500: ["a", "b", "c"]}, {"no pod": ["d"]}),
        ("throughput", "line_rate"): Readings({}, {"virtual": ["a", "b", "c", "d"]}),
        ("kernel", "sysctl", "host", "vm.swappiness"): Readings({0: ["a", "b", "c", "d"]}),
        ("kernel", "qdisc"): Readings({"fq": ["a", "b", "c", "d"]}),
    }
    claims = {"proxy.mode": Claim("ipvs", "ConfigMap x"), "encapsulation": Claim("vxlan", "ConfigMap y"), "mtu.pod": Claim(None, "z")}
    text = begun_text(["begun", "second"], "mine: yes", readings, claims, 4, {("throughput", "line_rate"): "write it"})
    assert text.splitlines() == [
        "# begun",
        "# second",
        "name: 'mine: yes'",
        "",
        "proxy:",
        "  # nodes disagree about mode; take one, or make them agree",
        "  # mode: ipvs  # a, c",
        "  # mode: iptables  # b; the cluster claims ipvs (ConfigMap x)",
        "  # not read on d: it is\\ngone",
        "",
        "encapsulation: none  # a, b, c, d; the cluster claims vxlan (ConfigMap y)",
        "",
        "mtu:",
        "  pod: 1500  # a, b, c; not read on d: no pod",
        "",
        "throughput:",
        "  # line_rate: not read on a, b, c, d: virtual; write it",
        "",
        "kernel:",
        "  sysctl:",
        "    host:",
        "      vm.swappiness: 0  # a, b, c, d",
        "  qdisc: fq  # a, b, c, d",
    ]
    (tmp_path / "p.yaml").write_text(text)
    model = load_profiles([str(tmp_path / "p.yaml")]).model
    assert (model.name, model.proxy.mode, model.encapsulation, model.mtu.pod, model.kernel.qdisc) == ("mine: yes", None, "none", 1500, "fq")


def test_many_nodes_are_not_named() -> None:
    names = [f"node-{number}" for number in range(1, 9)]
    readings: dict[Location, Readings] = {
        ("mtu", "pod"): Readings({1500: names}),
        ("mtu", "uplink"): Readings({1500: names[:6], 9000: names[6:]}),
    }
    lines = begun_text([], "x", readings, {}, 8, {}).splitlines()
    assert "  pod: 1500  # all 8 nodes" in lines
    assert "  # uplink: 1500  # node-1, node-2, node-3, node-4, node-5 and 1 more" in lines
    assert "  # uplink: 9000  # node-7, node-8" in lines
