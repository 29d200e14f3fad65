from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_k8snet.errors import ConfigurationError, RecordError
from pytest_k8snet.expect import profile as profiles
from pytest_k8snet.expect.profile import json_schema, load_profiles, profile_from_json, profile_to_json, shipped_profiles
from pytest_k8snet.expect.schema import port_ranges, rate_bps, rate_text, split_want
from pytest_k8snet.record.redact import Redactor


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(*names: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_profiles(names)
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped(name: str) -> None:
    profile = load_profiles([name])
    assert profile.model.name == name
    assert profile.model.description


@pytest.mark.parametrize(
    ("name", "mode", "encapsulation"),
    [
        ("calico-bgp", None, "none"),
        ("calico-ipip", None, "ipip"),
        ("calico-vxlan", None, "vxlan"),
        ("cilium-kube-proxy-free", "none", None),
        ("flannel-host-gw", None, "none"),
        ("flannel-vxlan", None, "vxlan"),
        ("flat-l2", None, "none"),
        ("iptables", "iptables", None),
        ("ipvs", "ipvs", None),
        ("kube-proxy-free", "none", None),
        ("lab", None, None),
        ("low-latency-region", None, None),
        ("native", None, "none"),
        ("nftables", "nftables", None),
        ("tuned-node", None, None),
        ("vxlan", None, "vxlan"),
    ],
)
def test_what_shipped_ones_want(name: str, mode: str | None, encapsulation: str | None) -> None:
    model = load_profiles([name]).model
    assert (model.proxy.mode, model.encapsulation) == (mode, encapsulation)
    assert (model.mtu.pod is not None) == (name == "flat-l2")  # of others the CNI and the uplink decide
    assert bool(model.kernel.sysctl.host) == (name == "tuned-node")
    assert (model.throughput.line_rate is not None) == (name == "lab")


def test_a_region_is_narrowed_by_a_profile_that_extends_it(tmp_path: Path) -> None:
    shipped = load_profiles(["low-latency-region"]).model
    assert (shipped.regions, shipped.zones, shipped.latency.points, shipped.dns.p99_ms) == (["*"], None, None, 20)
    point = "{ name: exchange, address: 198.51.100.7, port: 443, max_p50_ms: 2 }"
    path = write(tmp_path, "ours.yaml", f"extends: low-latency-region\nregions: [eu-central-1]\nlatency: {{ points: [{point}] }}\n")
    ours = load_profiles([path]).model
    assert ours.regions == ["eu-central-1"]
    assert ours.latency.slack_ms == shipped.latency.slack_ms
    assert [(item.name, item.max_p50_ms) for item in ours.latency.points or ()] == [("exchange", 2)]


@pytest.mark.parametrize("name", ["README.md", "docs/profiles.md"])
def test_examples_of_the_documentation_are_valid(tmp_path: Path, name: str) -> None:
    text = (Path(__file__).parents[3] / name).read_text()
    examples = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        load_profiles([write(tmp_path, "p.yaml", example)])


def test_shipped_ones_are_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "profiles.md").read_text()
    table = text[text.index("## Shipped profiles") :]
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    assert [name for name in shipped_profiles() if f"`{name}`" not in table or f"`{name}`" not in readme] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mtu:\n  pods: 1500\n", ":2: unknown key 'mtu.pods'; did you mean 'pod'?"),
        ("mtus: {}\n", ":1: unknown key 'mtus'; did you mean 'mtu'?"),
        (
            "name: x\nzzz: 1\n",
            ":2: unknown key 'zzz'; known here: name, description, extends, proxy, encapsulation, mtu, throughput, reach, latency, ",
        ),
        ("mtu:\n  pod: '1500'\n", ":2: mtu.pod: got '1500', want a whole number"),
        ("mtu:\n  pod: 80\n", ":2: mtu.pod: got 80, want at least 576"),
        ("proxy:\n  mode: ebpf\n", ":2: proxy.mode: got 'ebpf', want one of iptables, ipvs, nftables, none"),
        ("proxy:\n  strict_arp: 'yes'\n", ":2: proxy.strict_arp: got 'yes', want true or false"),
        ("throughput:\n\n  line_rate: 50mbps\n", ":3: throughput.line_rate: '50mbps' is not a rate; write it like 50mbit or 10gbit"),
        ("throughput: {pod_to_host: 0}\n", ":1: throughput.pod_to_host: got 0, want more than 0"),
        (
            "kernel:\n  sysctl:\n    host:\n      vm.swappiness: true\n",
            ":4: kernel.sysctl.host.vm.swappiness: write 1 or 0: a sysctl has no true and false, got True",
        ),
        (
            "kernel:\n  sysctl:\n    host:\n      vm.swappiness: '>= many'\n",
            ":4: kernel.sysctl.host.vm.swappiness: '>= many': >= compares one whole number, not 'many'",
        ),
        (
            "kernel:\n  sysctl:\n    pod:\n      net/core/netdev_max_backlog: 1\n",
            ":4: kernel.sysctl.pod.net/core/netdev_max_backlog: pods have no such sysctl, nodes alone do; write it below ",
        ),
        ("waivers:\n- check: NET-*\n  expires: 2030-01-01\n", ":2: waivers.0.reason is missing"),
        ("waivers:\n- {check: A, reason: r, expires: soon}\n", ":2: waivers.0.expires: "),
        ("kernel: 5\n", ":1: kernel: got 5, want a section with keys of its own"),
        ("proxy: {mode: IPVS}\n", ":1: proxy.mode: got 'IPVS', want one of iptables, ipvs, nftables, none; did you mean 'ipvs'?"),
        ("extends: {a: b}\n", ":1: extends: got {'a': 'b'}, want a list"),
        ("extends: ['']\n", ":1: extends.0 is empty"),
        ("name: 5\n", ":1: name: got 5, want a word; write it in quotes"),
        ("- a\n- b\n", ":1: a profile is a mapping of keys to values"),
        ("a: [b\n- {\n", ":2: not valid YAML: "),
        ("mtu: {pod: 1500}\nname: x\nmtu: {}\n", ":3: 'mtu' is given twice, first in line 1"),
        ("custom: &a\n  b: *a\n", ":1: an alias within what it stands for"),
        ("custom:\n  <<: {a: 1}\n", ":2: YAML's merge key is not supported; use extends"),
        ("custom:\n  ? [a, b]\n  : 1\n", ":2: a key is a plain word"),
        ("extends: nowhere.yaml\n", ":1: no profile 'nowhere.yaml': it is neither a file nor one of the shipped profiles ("),
    ],
    ids=lambda value: value.splitlines()[-1][:30] if value.endswith("\n") else "",
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    name = write(tmp_path, "p.yaml", text)
    assert refused(name).startswith(f"{name}{message}")


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    name = write(tmp_path, "p.yaml", "mtu:\n  pod: 1\n  uplink: 2\n")
    assert [line.partition(": ")[0] for line in refused(name).splitlines()] == [f"{name}:2", f"{name}:3"]


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"mtu: {}\nname: \xe4\n")
    assert refused(str(path)) == f"{path}:2: not UTF-8 text (byte 14 of the file); save it as UTF-8"
    assert refused("no-such") == (
        f"--k8snet-profile: no profile 'no-such': it is neither a file nor one of the shipped profiles ({', '.join(shipped_profiles())})"
    )
    assert refused("tuned_node").endswith("did you mean 'tuned-node'?")
    assert refused(str(tmp_path)) == f"--k8snet-profile: profile '{tmp_path}' is a directory; name the file in it"


def bomb(depth: int) -> str:
    """Ten to the power of `depth` words."""
    lines = ["custom:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    return "\n".join([*lines, *(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth))])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bomb(10).encode(), "p.yaml:2: more than 100000 values, aliases taken apart"),
        (b"custom: &a [*a]", "p.yaml:1: an alias within what it stands for"),
        (b"custom: " + b"[" * 20_000, "p.yaml: nested too deeply for a profile"),
        (b"mtu:\n  pod: 1\0\n", "p.yaml:2: not valid YAML: character #x00 is not allowed"),
        (b"mtu:\n\tpod: 1500\n", "p.yaml:2: not valid YAML: a tab; YAML is indented by blanks"),
        (b"mtu: {}\n---\nmtu: {}\n", "p.yaml:2: not valid YAML: a second document (---); a profile is one"),
        (b"mtu:\n  pod: 1\n  pod: 2\n", "p.yaml:3: 'pod' is given twice, first in line 2"),
        (b"mtu: \xff", "p.yaml:1: not UTF-8 text (byte 5 of the file); save it as UTF-8"),
        (b"\xff\xfem\0t\0u\0", "p.yaml:1: not UTF-8 text (byte 0 of the file); save it as UTF-8"),
        (b"#" * (2 << 20), "p.yaml: more than 1 MiB; that is no profile"),
        (b"name: " + b"x" * 100_000 + b"\nmtu: {pod: " + b"y" * 100_000 + b"}", "p.yaml:2: mtu.pod: "),
        (b"\n".join(b"k%d: 1" % n for n in range(5000)), "p.yaml:1: unknown key 'k0'"),
        (b"!!python/object/apply:os.system [reboot]", "p.yaml:1: a profile is a mapping of keys to values"),
        (b"custom: !!python/object/apply:os.system [reboot]", "p.yaml:1: custom: got ['reboot'], want a section with keys of its own"),
    ],
    ids=["bomb", "loop", "deep", "nul", "tab", "second", "twice", "latin", "utf-16", "large", "long", "many", "object", "inner-object"],
)
def test_garbage(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "p.yaml").write_bytes(data)
    told = refused(str(tmp_path / "p.yaml"))
    assert message in told
    assert len(told) < 6000
    assert len(told.splitlines()) <= 21


def test_large_file_that_is_not_read(tmp_path: Path) -> None:
    """Fifty megabytes with nothing on the disk; the first of them is enough."""
    with (tmp_path / "p.yaml").open("wb") as file:
        file.truncate(50 << 20)
    assert refused(str(tmp_path / "p.yaml")).endswith("p.yaml: more than 1 MiB; that is no profile")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "--k8snet-profile: profile '.' is a directory; name the file in it"),
        ("x" * 5000, "File name too long"),
        ("/dev/null", "--k8snet-profile: no profile '/dev/null': it is neither a file nor one of the shipped profiles"),
        ("no\0name", "--k8snet-profile: no profile 'no\\x00name': it is neither a file nor one of the shipped profiles"),
    ],
    ids=["directory", "long", "device", "nul"],
)
def test_what_is_no_file(name: str, message: str) -> None:
    told = refused(name)
    assert message in told
    assert len(told) < 1000


def test_later_profiles_win_and_origins_are_kept(tmp_path: Path) -> None:
    low = write(tmp_path, "low.yaml", "mtu:\n  pod: 1500\n  uplink: 1500\nproxy: {mode: ipvs}\n")
    high = write(tmp_path, "high.yaml", "# above\nmtu:\n  pod: 1450\n")
    profile = load_profiles([low, high])
    assert (profile.model.mtu.pod, profile.model.mtu.uplink, profile.model.proxy.mode) == (1450, 1500, "ipvs")
    assert profile.origin("mtu", "pod") == "profile high.yaml:3"
    assert profile.origin("mtu", "uplink") == "profile low.yaml:3"
    assert profile.names == (low, high)


def test_extends(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", "base.yaml", "extends: flat-l2\nmtu: {uplink: 9000}\n")
    profile = load_profiles([write(tmp_path, "top.yaml", "extends: sub/base.yaml\nmtu:\n  pod: 8950\n")])
    assert (profile.model.mtu.pod, profile.model.mtu.uplink, profile.model.encapsulation) == (8950, 9000, "none")
    assert profile.origin("mtu", "uplink") == "profile base.yaml:2"
    assert profile.origin("encapsulation") == "profile native.yaml:3"


def test_extending_in_a_circle(tmp_path: Path) -> None:
    a = write(tmp_path, "a.yaml", "extends: b.yaml\n")
    write(tmp_path, "b.yaml", "extends: a.yaml\n")
    assert refused(a).endswith("a.yaml: profiles extend each other in a circle: a.yaml -> b.yaml -> a.yaml")


def test_extending_several(tmp_path: Path) -> None:
    """Later ones win; what two of them extend lies below both, and its waivers count once."""
    write(
        tmp_path,
        "root.yaml",
        "mtu: {pod: 1, uplink: 1, tunnel: 1}\n".replace("1", "1000") + "waivers:\n- {check: A, reason: r, expires: 2030-01-01}\n",
    )
    write(tmp_path, "left.yaml", "extends: root.yaml\nmtu: {pod: 2000, uplink: 2000}\n")
    write(tmp_path, "right.yaml", "extends: ./root.yaml\nmtu: {pod: 3000}\n")
    top = write(tmp_path, "top.yaml", "extends:\n- left.yaml\n- right.yaml\n- ipvs\n")
    profile = load_profiles([top, "lab", top])
    assert (profile.model.mtu.pod, profile.model.mtu.uplink, profile.model.mtu.tunnel) == (3000, 2000, 1000)
    assert profile.origin("mtu", "uplink") == "profile left.yaml:2"
    assert profile.model.proxy.mode == "ipvs"
    assert len(profile.model.waivers) == 1
    assert [file.path.name for file in profile.chains[0]] == ["top.yaml", "ipvs.yaml", "right.yaml", "left.yaml", "root.yaml"]
    read = profile_from_json(profile_to_json(profile), where="x")
    assert read is not None
    assert read.model == profile.model


def test_extending_what_is_not_there(tmp_path: Path) -> None:
    top = write(tmp_path, "top.yaml", "extends:\n  - native\n  - iptable\n")
    told = refused(top)
    assert told.startswith(f"{top}:3: no profile 'iptable': it is neither a file nor one of the shipped profiles (")
    assert told.endswith("; did you mean 'iptables'?")


@pytest.mark.parametrize(
    ("text", "circle"), [("extends: [native, p.yaml]\n", "p.yaml -> p.yaml"), ("extends: ./p.yaml\n", "p.yaml -> p.yaml")]
)
def test_extending_itself(tmp_path: Path, text: str, circle: str) -> None:
    assert refused(write(tmp_path, "p.yaml", text)).endswith(f"p.yaml: profiles extend each other in a circle: {circle}")


def test_extending_without_end(tmp_path: Path) -> None:
    for number in range(120):
        write(tmp_path, f"{number}.yaml", f"extends: {number + 1}.yaml\n")
    assert refused(str(tmp_path / "0.yaml")).endswith("100.yaml: more than 100 profiles extend each other")


def test_sections_without_content(tmp_path: Path) -> None:
    text = "extends:\nmtu:\nproxy: {mode:}\nwaivers:\ncustom:\nkernel:\n  sysctl:\n    host:\n"
    profile = load_profiles(["ipvs", write(tmp_path, "p.yaml", text)])
    assert profile.model.proxy.mode is None
    assert profile.model.kernel.sysctl.host == {}


def test_null_takes_back(tmp_path: Path) -> None:
    name = write(tmp_path, "p.yaml", "kernel:\n  qdisc: null\n  sysctl:\n    host:\n      net.ipv4.tcp_tw_reuse: null\nmtu:\n")
    profile = load_profiles(["tuned-node", name])
    assert profile.model.kernel.qdisc is None
    assert profile.model.kernel.sysctl.host["net.ipv4.tcp_tw_reuse"] is None
    assert profile.model.kernel.congestion_control == "bbr"


def test_waivers_add_up(tmp_path: Path) -> None:
    one = write(tmp_path, "1.yaml", "waivers:\n- {check: A-1, reason: r, expires: 2030-01-01}\n")
    two = write(tmp_path, "2.yaml", "waivers:\n\n- {check: A-2, reason: r, expires: 2030-01-01}\n")
    profile = load_profiles([one, two])
    assert [waiver.check for waiver in profile.model.waivers] == ["A-1", "A-2"]
    assert (profile.origin("waivers", 0), profile.origin("waivers", 1)) == ("profile 1.yaml:2", "profile 2.yaml:3")


# ---- in the record of a run

RICH = """
extends: sub/base.yaml
waivers:
- {check: A-1, reason: r, expires: 2030-01-01}
custom:
  since: 2024-02-03
  ports: [1, "2", 3.5, null, true]
  again: &again {deep: [x]}
  twice: *again
"""


def test_a_profile_is_recorded_without_its_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    base = tmp_path / "sub" / "base.yaml"
    base.write_text("extends: flat-l2\nmtu: {uplink: 9000}\n")
    top = tmp_path / "top.yaml"
    top.write_text(RICH)
    given = load_profiles(["tuned-node", str(top)])
    recorded = json.dumps(profile_to_json(given))
    base.unlink()
    top.unlink()
    read = profile_from_json(json.loads(recorded), where="profiles.json")
    assert read is not None
    assert read.model == given.model
    assert read.names == given.names
    assert {at: mark.origin for at, mark in read.marks.items()} == {at: mark.origin for at, mark in given.marks.items()}
    assert profile_to_json(read) == json.loads(recorded)
    assert str(tmp_path) not in recorded.replace(json.dumps(str(top)), "")  # but for the name that was given


def test_the_texts_are_those_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also those of the shipped profiles, which another version may have changed."""
    recorded = profile_to_json(load_profiles(["flat-l2"]))
    monkeypatch.setattr(profiles, "SHIPPED", tmp_path)
    read = profile_from_json(recorded, where="profiles.json")
    assert read is not None
    assert read.model.encapsulation == "none"
    assert read.origin("encapsulation") == "profile native.yaml:3"


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_record_has_nothing_to_hide_in_them(name: str) -> None:
    recorded = profile_to_json(load_profiles([name]))
    assert Redactor().json(recorded) == recorded


def test_no_profile_is_recorded_as_none() -> None:
    assert profile_from_json(profile_to_json(None), where="x") is None


def one(text: str) -> dict[str, object]:
    return {"schema": 1, "profiles": [{"name": "p", "files": [{"name": "p.yaml", "text": text}]}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "x: not what pytest-k8snet writes (no schema)"),
        ({"schema": 2, "profiles": []}, "x: schema 2, written by "),
        ({"schema": 1}, "x: damaged: KeyError('profiles')"),
        ({"schema": 1, "profiles": [1]}, "x: damaged: TypeError("),
        ({"schema": 1, "profiles": [{"name": "p", "files": [{"name": 5, "text": ""}]}]}, "x: damaged: TypeError("),
        (one("mtu:\n  pods: 1\n"), "x: p.yaml:2: unknown key 'mtu.pods'; did you mean 'pod'?"),
        (one("- a"), "x: p.yaml:1: a profile is a mapping of keys to values"),
        (one("custom: " + "[" * 20_000), "x: p.yaml: nested too deeply for a profile"),
        (
            one("custom:\n  a0: &a0 [1]\n" + "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))),
            "more than 100000 values, aliases taken apart",
        ),
    ],
    ids=["no-object", "newer", "no-profiles", "no-profile", "no-name", "not-valid", "no-mapping", "deep", "laughs"],
)
def test_recorded_profiles_that_cannot_be_used(data: object, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        profile_from_json(data, where="x")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x: ")


def test_empty_profile(tmp_path: Path) -> None:
    assert load_profiles([write(tmp_path, "p.yaml", "# nothing\n")]).model.mtu.pod is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [("50mbit", 50_000_000), ("10gbit", 10**10), ("1.5 Gbit", 1_500_000_000), ("64kbit", 64_000), ("9bit", 9)],
)
def test_rate(text: str, rate: int) -> None:
    assert rate_bps(text) == rate
    assert rate_bps(rate_text(rate)) == rate


@pytest.mark.parametrize("text", ["", "50", "0mbit", "-1mbit", "1e9bit", "50MB"])
def test_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        rate_bps(text)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1", ("=", "1")),
        ("= 1", ("=", "1")),
        (">= 131072", (">=", "131072")),
        ("<=-1", ("<=", "-1")),
        ("1024\t65535", ("=", "1024 65535")),
        ("covers 10250,30000-32767", ("covers", "10250,30000-32767")),
        ("coversall", ("=", "coversall")),
    ],
)
def test_want(text: str, want: tuple[str, str]) -> None:
    assert split_want(text) == want


@pytest.mark.parametrize("text", ["", ">=", ">= x", "covers", "covers 70000", "covers 5-3", "covers a"])
def test_no_want(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_want(text)


def test_ports() -> None:
    assert port_ranges("30000-32767, 53,80 - 90") == [(53, 53), (80, 90), (30000, 32767)]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("none", "none"),
        ("None", "none"),
        ("NONE", "none"),
        ("Never", "none"),
        ("native", "none"),
        ("disabled", "none"),
        ("host-gw", "none"),
        ("noEncap", "none"),
        ("VXLAN", "vxlan"),
        ("Vxlan", "vxlan"),
        ("IPIP", "ipip"),
        ("IP-in-IP", "ipip"),
        ("Geneve", "geneve"),
        ("VXLANCrossSubnet", "vxlan-cross-subnet"),
        ("IPIPCrossSubnet", "ipip-cross-subnet"),
        ("vxlan-cross-subnet", "vxlan-cross-subnet"),
        ("WireGuard", "wireguard"),
        ("~", None),
        ("null", None),
    ],
)
def test_words_of_encapsulations(tmp_path: Path, word: str, meant: str | None) -> None:
    profile = load_profiles(["vxlan", write(tmp_path, "p.yaml", f"name: p\nencapsulation: {word}\n")])
    assert profile.model.encapsulation == meant
    assert profile.origin("encapsulation") == "profile p.yaml:2"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "CrossSubnet",
            "'CrossSubnet' is IPPool's word for one of ipipMode and vxlanMode; write vxlan-cross-subnet or ipip-cross-subnet",
        ),
        (
            "Always",
            "'Always' is IPPool's word for one of ipipMode and vxlanMode and does not say in what packets are put; write vxlan, ipip,",
        ),
        ("tunnel", "'tunnel' does not say in what packets are put; write vxlan, ipip, geneve or wireguard"),
        ("BGP", "'BGP' says how routes are told, with and without encapsulation; write none, or ipip or vxlan"),
        ("no", "YAML reads this as false; write none, vxlan, ipip, geneve or wireguard"),
        (
            "vxlam",
            "got 'vxlam', want one of none, vxlan, ipip, geneve, wireguard, vxlan-cross-subnet, ipip-cross-subnet, geneve-cross",
        ),
        ("gre", "got 'gre', want one of none, vxlan, ipip, geneve, wireguard"),
        ("''", "got '', want one of none, vxlan, ipip, geneve, wireguard"),
        ("5", "got 5, want one of none, vxlan, ipip, geneve, wireguard"),
        ("[none]", "got ['none'], want one of none, vxlan, ipip, geneve, wireguard"),
    ],
)
def test_words_that_are_no_encapsulation(tmp_path: Path, word: str, message: str) -> None:
    path = write(tmp_path, "p.yaml", f"name: p\nencapsulation: {word}\n")
    assert refused(path).startswith(f"{path}:2: encapsulation: {message}")


def test_published_json_schema() -> None:
    published = Path(__file__).parents[3] / "docs" / "profile.schema.json"
    assert published.read_text() == json_schema(), "k8snet profile schema > docs/profile.schema.json"


def test_json_schema() -> None:
    schema = json.loads(json_schema())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) >= {"proxy", "mtu", "throughput", "kernel", "waivers", "custom", "extends"}
    assert schema["additionalProperties"] is False


def test_settings_of_ingress(tmp_path: Path) -> None:
    text = "ingress:\n  settings:\n    hsts: true\n    keep-alive: 75\n    proxy-buffer-size: 16k\n"
    profile = load_profiles([write(tmp_path, "p.yaml", text)])
    assert profile.model.ingress.settings == {"hsts": "true", "keep-alive": "75", "proxy-buffer-size": "16k"}
    assert ":3: " in refused(write(tmp_path, "q.yaml", "ingress:\n  settings:\n    proxy-buffers: 8\n"))
    assert "is no key that is judged; there are: hsts, " in refused(str(tmp_path / "q.yaml"))
    assert "covers is for lists of ports" in refused(write(tmp_path, "r.yaml", "ingress:\n  settings:\n    keep-alive: covers 1\n"))
    assert ":2: dns.replicas: " in refused(write(tmp_path, "s.yaml", "dns:\n  replicas: 0\n"))


ROUTE = "ingress:\n  routes:\n    - name: edge\n      ingress_class: nginx\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("      gateway: a/b\n", ":3: ingress.routes.0: got both ingress_class and gateway, want one of the two: whose way it is"),
        (
            "      service: a/b\n    - name: x\n      service: a/b\n",
            ":6: ingress.routes.1: got neither ingress_class nor gateway, want one of the two: whose way it is",
        ),
        (
            "      service: a/b\n    - {name: edge, ingress_class: x, service: a/b}\n",
            ":2: ingress.routes: got the name 'edge' more than once; checks tell routes apart by it",
        ),
        ("      listener: http\n", ":3: ingress.routes.0: got listener without gateway; an IngressClass has none"),
        ("", ":3: ingress.routes.0: got neither service nor address, want one of the two: where the controller answers"),
        (
            "      service: a/b\n      address: 198.51.100.7\n",
            ":3: ingress.routes.0: got both service and address, want one of the two: where the controller answers",
        ),
        (
            "      service: ingress-nginx\n",
            (":5: ingress.routes.0.service: got 'ingress-nginx', want namespace and name such as ingress-nginx/ingress-nginx-controller"),
        ),
        (
            "      service: a/b\n      hsts_max_age: 60\n",
            ":3: ingress.routes.0: got hsts_max_age without tls: true; the header counts over TLS alone",
        ),
        ("      service: a/b\n      header_bytes: 70000\n", ":6: ingress.routes.0.header_bytes: got 70000, want at most 61440"),
        ("      service: a/b\n      port: 0\n", ":6: ingress.routes.0.port: got 0, want at least 1"),
        ("      service: a/b\n      header_size: 8\n", ":6: unknown key 'ingress.routes.0.header_size'; did you mean 'header_bytes'?"),
    ],
    ids=["two-ways", "no-way", "same-name", "listener", "nowhere", "twice", "no-namespace", "no-tls", "too-long", "no-port", "unknown"],
)
def test_ways_into_the_cluster_that_make_no_sense(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "p.yaml", ROUTE + text)
    assert refused(path).startswith(f"{path}{message}")
