"""`k8snet profile` as a user types it."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel

from pytest_k8snet.access.fake import fake_node, healthy_dns
from pytest_k8snet.cli import main
from pytest_k8snet.cluster.model import Claim, Cluster
from pytest_k8snet.expect.explain import explain, explained_text
from pytest_k8snet.expect.model import Expectation, MtuExpectation, Wanted
from pytest_k8snet.expect.profile import json_schema, load_profiles, shipped_profiles
from pytest_k8snet.expect.resolve import Expectations, resolve
from pytest_k8snet.expect.schema import ProfileModel
from pytest_k8snet.record.bundle import write_bundle
from pytest_k8snet.record.store import RunFolder
from tests.unit.fakeapi import FakeApiServer, write_kubeconfig

RECORDINGS = Path(__file__).parent.parent / "recordings"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def profile(*argv: str) -> Result:
    return CliRunner().invoke(main, ["profile", *argv])


def write(name: str, text: str | bytes) -> None:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())


def test_list() -> None:
    lines = profile("list").output.splitlines()
    assert tuple(line.split()[0] for line in lines) == shipped_profiles()
    assert any(re.match(r"calico-bgp +Calico with BGP .* \(extends native\)$", line) for line in lines)


def test_schema() -> None:
    assert profile("schema").output == json_schema()


RICH = """
name: rich
description: "a: b"
extends: [ipvs, tuned-node]
mtu:
  pod: 1500
  tunnel: null
kernel: {sysctl: {host: {net.ipv4.tcp_tw_reuse: null, vm.swappiness: 0}}}
waivers:
- {check: ACME-1, reason: "a # b", expires: 2030-01-01}
custom: {racks: [1, "2"], since: 2024-02-03}
"""


def test_show() -> None:
    write("rich.yaml", RICH)
    shown = profile("show", "rich.yaml", "lab")
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[0] == "# rich.yaml, lab; files, from the last word to the first: rich.yaml, tuned-node.yaml, ipvs.yaml, lab.yaml"
    assert "  mode: ipvs  # profile ipvs.yaml:4" in lines
    assert "  pod: 1500  # profile rich.yaml:6" in lines
    assert "  tunnel: null  # profile rich.yaml:7" in lines
    assert "      vm.swappiness: 0  # profile rich.yaml:8" in lines
    assert "  - {check: ACME-1, expires: '2030-01-01', reason: 'a # b'}  # profile rich.yaml:10" in lines
    write("again.yaml", shown.output)
    first, again = load_profiles(["rich.yaml", "lab"]).model, load_profiles(["again.yaml"]).model
    assert again.model_dump(mode="json", exclude={"extends"}) == first.model_dump(mode="json", exclude={"extends"})


@pytest.mark.parametrize("name", shipped_profiles())
def test_what_is_shown_wants_the_same(name: str) -> None:
    write("again.yaml", profile("show", name).output)
    again = load_profiles(["again.yaml"]).model
    assert again.model_dump(exclude={"extends"}) == load_profiles([name]).model.model_dump(exclude={"extends"})


def test_show_what_is_not_there() -> None:
    shown = profile("show", "ipvz")
    assert shown.exit_code == 1
    assert shown.output.startswith("Error: k8snet profile show: no profile 'ipvz': it is neither a file nor one of the shipped profiles (")
    assert shown.output.endswith("; did you mean 'ipvs'?\n")


BAD = """extends: [tuned-nod, base.yaml]
mtu:
  pods: 1500
  pod: 80
  pod: 90
proxy: {mode: IPVS, scheduler: RR}
kernel: {sysctl: {host: {somaxconn: 1}}}
waivers:
- {check: NET-MTU-999, reason: " ", expires: 2027-02-30}
"""


def test_lint_tells_every_mistake() -> None:
    write("bad.yaml", BAD)
    write("base.yaml", "name: base\nmtu: {pod: big}\n")
    write("good.yaml", "extends: ipvs\n")
    linted = profile("lint", "bad.yaml", "good.yaml", "base.yaml", "ipvs")
    assert linted.exit_code == 1
    told = [re.sub(r" \(calico-bgp, .*\)|NET-MTU-00\d", "", line) for line in linted.output.splitlines()]
    assert told == [
        "bad.yaml:3: unknown key 'mtu.pods'; did you mean 'pod'?",
        "bad.yaml:4: mtu.pod: got 80, want at least 576",
        "bad.yaml:5: 'pod' is given twice, first in line 4",
        "bad.yaml:6: proxy.mode: got 'IPVS', want one of iptables, ipvs, nftables, none; did you mean 'ipvs'?",
        "bad.yaml:6: proxy.scheduler: got 'RR', want a scheduler of IPVS in lower-case letters, such as rr",
        "bad.yaml:7: kernel.sysctl.host.somaxconn: got 'somaxconn', want the name of a sysctl such as net.ipv4.ip_forward",
        "bad.yaml:9: waivers.0.reason is empty",
        "bad.yaml:9: waivers.0.expires: got '2027-02-30', want a date such as 2027-03-31",
        "bad.yaml:9: waivers.0.check: 'NET-MTU-999' is no check; did you mean ''?",
        "base.yaml:2: mtu.pod: got 'big', want a whole number",
        "bad.yaml:1: no profile 'tuned-nod': it is neither a file nor one of the shipped profiles; did you mean 'tuned-node'?",
        "good.yaml: valid",
        "ipvs: valid",
        "mistakes: 11, in 2 of 4 profiles",
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: [b\n- {\n", "p.yaml:2: not valid YAML: "),
        ("mtu:\n\tpod: 1500\n", "p.yaml:2: not valid YAML: a tab; YAML is indented by blanks"),
        ("mtu: {pod: 1500}\nmtu: {}\n", "p.yaml:2: 'mtu' is given twice, first in line 1"),
        (b"\x7fELF\x02\x01\x01\0\0\xff", "p.yaml:1: not UTF-8 text (byte 9 of the file); save it as UTF-8"),
        (b"\x00\x01\x02", "p.yaml:1: not valid YAML: character #x00 is not allowed"),
        (b"x" * (2 << 20), "p.yaml: more than 1 MiB; that is no profile"),
        ("extends: p.yaml\n", "p.yaml: profiles extend each other in a circle: p.yaml -> p.yaml"),
        ("hello", "p.yaml:1: a profile is a mapping of keys to values"),
        ("a\x1b[31m: 1\n", "p.yaml:1: not valid YAML: character #x1b is not allowed"),
        ('"a\\e[31m": 1\n', "p.yaml:1: unknown key 'a\\x1b[31m'; known here: "),
        ("", None),
    ],
    ids=["syntax", "tab", "twice", "binary", "nul", "huge", "circle", "text", "escape", "written-escape", "empty"],
)
def test_lint_of_garbage(content: str | bytes, line: str | None) -> None:
    write("p.yaml", content)
    linted = profile("lint", "p.yaml")
    if line is None:
        assert (linted.exit_code, linted.output) == (0, "p.yaml: valid\n")
        return
    first, last = linted.output.splitlines()
    assert linted.exit_code == 1
    assert first.startswith(line)
    assert last == "mistakes: 1, in 1 of 1 profile"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (".", "k8snet profile lint: profile '.' is a directory; name the file in it"),
        ("nowhere.yaml", "k8snet profile lint: no profile 'nowhere.yaml': it is neither a file nor one of the shipped profiles ("),
        ("/dev/zero", "k8snet profile lint: no profile '/dev/zero': it is neither a file nor one of the shipped profiles ("),
    ],
)
def test_lint_of_what_is_no_file(name: str, line: str) -> None:
    linted = profile("lint", name)
    assert linted.exit_code == 1
    assert linted.output.startswith(line)


def test_lint_names_waivers_that_end() -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    soon = today + datetime.timedelta(days=7)
    waivers = [("A-1", "2020-01-01"), ("A-2", soon), ("A-3", "2999-01-01")]
    write("p.yaml", "waivers:\n" + "".join(f"- {{check: {check}, reason: r, expires: {day}}}\n" for check, day in waivers))
    linted = profile("lint", "p.yaml")
    assert linted.exit_code == 0
    valid, ended, ending = linted.output.splitlines()
    assert valid == "p.yaml: valid"
    assert ended == "p.yaml: waiver of A-1 (profile p.yaml:2) ended on 2020-01-01: it excuses nothing any more; remove or renew it: r"
    assert re.fullmatch(rf"p\.yaml: waiver of A-2 \(profile p\.yaml:3\) ends in [67] days, on {soon}: r", ending)


# ---- explain


def told(output: str) -> dict[str, tuple[str, ...]]:
    """Return the lines of a table by their keys."""
    rows = [re.split(r"  +", line.strip()) for line in output.splitlines() if line.startswith("  ")]
    return {row[0]: tuple(row[1:]) for row in rows}


def test_explain_a_recorded_run() -> None:
    explained = profile("explain", str(RECORDINGS / "iptables-vxlan"))
    assert explained.exit_code == 0
    lines = explained.output.splitlines()
    assert re.fullmatch(
        r"Kubernetes v1\.\S+, CNI \S+ \(run \w+ of 2\S+ \S+ UTC\); profiles: lab, iptables, vxlan, tuned-node, lab-ingress", lines[0]
    )
    assert lines[2] == "node-1, node-2, node-3"
    table = told(explained.output)
    assert table["proxy.mode"] == ("iptables", "profile iptables.yaml:4")
    assert table["proxy.scheduler"] == ("-", "nobody says")
    assert table["encapsulation"] == ("vxlan", "profile vxlan.yaml:3")
    assert table["kernel.sysctl.host.net.netfilter.nf_conntrack_max"] == (">= 131072", "profile tuned-node.yaml:8")
    assert table["kernel.sysctl.pod.net.ipv4.tcp_tw_reuse"] == ("1", "profile tuned-node.yaml:16")
    assert table["throughput.line_rate"] == ("50mbit", "profile lab.yaml:4")
    assert table["throughput.pod_to_host"] == ("0.8", "built-in, encapsulation vxlan")


def test_explain_with_another_profile() -> None:
    write(
        "ours.yaml",
        """
extends: iptables
proxy: {strict_arp: false}
kernel: {modules: [ip_vs, veth]}
regions: [eu-*]
custom: {racks: [1, 2]}
waivers:
- {check: ACME-*, nodes: [node-2], reason: the move, expires: 2030-01-01}
""",
    )
    explained = profile("explain", str(RECORDINGS / "ipvs-native"), "--profile", "ours.yaml", "--node", "node-2")
    assert explained.output.splitlines()[2] == "node-2"
    table = told(explained.output)
    source = "claim ConfigMap kube-system/kube-proxy config.conf"
    assert table["proxy.mode"] == ("iptables", f"profile iptables.yaml:4; instead of ipvs ({source} mode)")
    assert table["proxy.strict_arp"] == ("false", f"profile ours.yaml:3; instead of true ({source} ipvs.strictARP)")
    assert table["proxy.scheduler"][:2] == ("rr", f"{source} ipvs.scheduler (empty means rr)")
    assert table["kernel.qdisc"] == ("fq", "profile tuned-node.yaml:18; advice only: no profile wants any tuning")
    assert table["custom.racks"] == ("[1, 2]", "profile ours.yaml:6")
    assert table["kernel.modules"] == ("ip_vs, veth", "profile ours.yaml:4")
    assert table["regions"] == ("eu-*", "profile ours.yaml:5")
    assert explained.output.endswith("\nwaivers\n  ACME-* on node-2 until 2030-01-01 (profile ours.yaml:8): the move\n")


def test_explain_a_bundle() -> None:
    folder = RECORDINGS / "ipvs-native"
    write_bundle(RunFolder(folder), Path("b.tar.zst"), run_id="r1")
    assert profile("explain", "b.tar.zst").output == profile("explain", str(folder)).output


def test_explain_a_cluster(server: FakeApiServer) -> None:
    server.routes["GET", "/version"] = (200, {"gitVersion": "v1.37.0"})
    for path in ("/apis/apps/v1/daemonsets", "/api/v1/namespaces/kube-system/pods"):
        server.items(path)
    server.items("/api/v1/nodes", {"metadata": {"name": "node-1"}, "spec": {}, "status": {"nodeInfo": {"operatingSystem": "linux"}}})
    network = {"data": {"network.json": '{"encapsulation": "none", "mtu": {"pod": 1400}}'}}
    server.routes["GET", "/api/v1/namespaces/kube-system/configmaps/k8snet-lab-network"] = (200, network)
    explained = profile("explain", "--kubeconfig", str(write_kubeconfig(Path("config"), server.url)), "--profile", "flat-l2")
    assert explained.exit_code == 0, explained.output
    assert explained.output.startswith("Kubernetes v1.37.0, CNI ")
    assert server.url in explained.output.splitlines()[0]
    table = told(explained.output)
    claim = "claim ConfigMap kube-system/k8snet-lab-network network.json mtu.pod"
    assert table["mtu.pod"] == ("1500", f"profile flat-l2.yaml:5; instead of 1400 ({claim})")
    assert [server.asked(method) for method in ("POST", "PUT", "PATCH", "DELETE")] == [[], [], [], []]


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        ((), 2, "Error: name a cluster by --kubeconfig, or a recorded run: a run folder or a bundle"),
        (("x", "--kubeconfig", "y"), 2, "Error: a cluster (--kubeconfig) and a recorded run exclude each other; name one of them"),
        (("nowhere",), 1, "Error: nowhere: there is no such file or folder"),
        ((".",), 1, "Error: .: not the folder of a run: it has no run.json"),
        (("--kubeconfig", "nowhere"), 1, "Error: "),
        ((str(RECORDINGS / "ipvs-native"), "--profile", "ipv"), 1, "Error: --profile: no profile 'ipv': "),
        ((str(RECORDINGS / "ipvs-native"), "--node", "node-9"), 2, "Error: --node: no node node-9; there are: node-1, node-2, node-3"),
    ],
)
def test_what_cannot_be_explained(argv: tuple[str, ...], status: int, message: str) -> None:
    explained = profile("explain", *argv)
    assert explained.exit_code == status
    assert message in explained.output
    assert "Traceback" not in explained.output


def test_nodes_that_differ_are_told_apart() -> None:
    """Each node's own expectations, wherever they may come from."""
    nodes = tuple(fake_node(f"node-{number}", number) for number in (1, 2, 3))
    cluster = Cluster(
        version="v1", nodes=nodes, claims={"mtu.pod": Claim(None, "IPPool p could not be read")}, kube_proxy_daemonsets=(), cni=None
    )
    other = Expectation(mtu=MtuExpectation(pod=Wanted(9000, "profile p.yaml:1")))
    expectations = Expectations(nodes={"node-2": other})
    parts = explained_text(expectations, cluster, None, ("node-1", "node-2", "node-3")).split("\n\n")
    assert [part.splitlines()[0] for part in parts[:2]] == ["node-1, node-3", "node-2"]
    assert told(parts[0])["mtu.pod"] == ("-", "nobody says: IPPool p could not be read")
    assert told(parts[1])["mtu.pod"] == ("9000", "profile p.yaml:1")


# ---- init


def test_init_from_a_bundle_and_from_a_folder() -> None:
    folder = RECORDINGS / "ipvs-faults-services"
    write_bundle(RunFolder(folder), Path("b.tar.zst"), run_id="r1")
    begun = profile("init", "b.tar.zst")
    assert begun.exit_code == 0, begun.output
    assert begun.output == profile("init", str(folder)).output
    lines = begun.output.splitlines()
    assert re.fullmatch(r"# Begun by `k8snet profile init` from run \w+ of 2\S+ \S+ UTC:", lines[0])
    at = lines.index("proxy:")
    assert lines[at + 1 : at + 4] == [
        "  # nodes disagree about mode; take one, or make them agree",
        "  # mode: ipvs  # node-1, node-2",
        "  # mode: iptables  # node-3; the cluster claims ipvs (ConfigMap kube-system/kube-proxy config.conf mode)",
    ]
    assert "  pod: 1500  # node-1, node-2, node-3" in lines
    assert "      net.netfilter.nf_conntrack_max: 131072  # node-1, node-2, node-3" in lines
    assert any(line.startswith("  # line_rate: not read on node-1, node-2, node-3: what its NIC reports") for line in lines)


def test_init_writes_a_file_that_is_valid_and_replaces_none() -> None:
    run = str(RECORDINGS / "ipvs-native")
    begun = profile("init", run, "-o", "ours.yaml")
    assert begun.output == (
        f"ours.yaml: look through it, then judge the same run by it: pytest --k8snet-replay={run} --k8snet-profile=ours.yaml\n"
    )
    assert load_profiles(["ours.yaml"]).model.name == "ours"
    assert profile("lint", "ours.yaml").exit_code == 0
    before = Path("ours.yaml").read_text()
    again = profile("init", run, "-o", "ours.yaml")
    assert (again.exit_code, again.output) == (1, "Error: ours.yaml: is there already; name another file\n")
    assert Path("ours.yaml").read_text() == before
    assert profile("init", run, "-o", "no/where.yaml").output == "Error: no/where.yaml: there is no folder no; name another file\n"


def copy_of(name: str) -> Path:
    return Path(shutil.copytree(RECORDINGS / name, "run"))


def test_init_says_which_nodes_were_not_read() -> None:
    run = copy_of("ipvs-native")
    document = json.loads((run / "facts" / "node-2.json").read_text())
    (run / "facts" / "node-2.json").write_text(json.dumps({**document, "values": None, "reason": "node-2: no answer"}))
    lines = profile("init", "run").output.splitlines()
    assert "# node-2 was not read: no facts: no answer" in lines
    assert "  pod: 1500  # node-1, node-3" in lines


def test_init_sees_a_tunnel_between_subnets() -> None:
    """Node-3 is in a subnet of its own and sees nothing but the tunnel; that is the same network."""
    run = copy_of("iptables-vxlan")
    cluster = json.loads((run / "cluster" / "cluster.json").read_text())
    of = {node["name"]: node["internal_ip"] for node in cluster["values"]["nodes"]}
    for name in of:
        document = json.loads((run / "facts" / f"{name}.json").read_text())
        near = [of["node-3"]] if name == "node-3" else [of["node-1"], of["node-2"]]
        host = document["values"]["host"]
        host["routes"] = [
            {"dst": "default", "gateway": "192.0.2.1", "dev": document["values"]["uplink"]},
            *({"dst": f"{address}/32", "dev": document["values"]["uplink"]} for address in near),
        ]
        document["values"]["peer_routes"] = [
            {**item, "dev": item["dev"] if "node-3" in (name, peer) else document["values"]["uplink"], "peers": {peer: way}}
            for item in document["values"]["peer_routes"]
            for peer, way in item["peers"].items()
        ]
        (run / "facts" / f"{name}.json").write_text(json.dumps(document))
    lines = profile("init", "run").output.splitlines()
    assert any(line.startswith("encapsulation: vxlan-cross-subnet  # node-1, node-2, node-3") for line in lines), lines


@pytest.mark.parametrize(
    ("nodes", "line"),
    [
        (("node-1", "node-3"), "  replicas: 2  # node-1, node-3"),
        (("node-1", "node-1"), "  # replicas: all 2 pods of CoreDNS are on node-1: when it goes, DNS of 3 nodes does (kubectl "),
        ((), None),
    ],
)
def test_init_counts_the_servers_of_dns(nodes: tuple[str, ...], line: str | None) -> None:
    run = copy_of("ipvs-native")
    document = json.loads((run / "cluster" / "cluster.json").read_text())
    document["values"]["dns"] = healthy_dns(nodes).to_json()
    (run / "cluster" / "cluster.json").write_text(json.dumps(document))
    lines = profile("init", "run").output.splitlines()
    if line is None:
        assert "dns:" not in lines
    else:
        assert lines[lines.index("dns:") + 1].startswith(line)


def test_init_has_nothing_to_begin_with() -> None:
    run = copy_of("ipvs-native")
    shutil.rmtree(run / "facts")
    begun = profile("init", "run")
    assert begun.exit_code == 1
    assert re.fullmatch(
        r"Error: the recording of run \w+ has no facts of any node: node-1: its facts were not recorded; .*\n", begun.output
    )
    (run / "plan.json").unlink()
    assert re.fullmatch(r"Error: the recording of run \w+ has no plan\n", profile("init", "run").output)
    assert profile("init", "nowhere").output == "Error: nowhere: there is no such file or folder\n"


def test_many_nodes_are_not_all_named() -> None:
    names = tuple(f"node-{number}" for number in range(1, 13))
    cluster = Cluster(version="v1", nodes=(), claims={}, kube_proxy_daemonsets=(), cni=None)
    assert explained_text(Expectations(), cluster, None, names).splitlines()[0] == f"{', '.join(names[:10])} and 2 more"


def test_expectations_are_told_by_the_keys_of_a_profile() -> None:
    def keys(section: type[BaseModel], above: str = "") -> Iterator[str]:
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys(inner, f"{above}{name}.")
            else:
                yield f"{above}{name}"

    known = set(keys(ProfileModel))
    explained = [item.key for item in explain(Expectation(), {}, None)]
    assert [key for key in explained if key not in known] == []
    assert known.difference(explained, {"name", "description", "extends", "waivers", "custom"}) == {
        "kernel.sysctl.host",
        "kernel.sysctl.pod",
        "latency.points",
        "ingress.settings",
        "ingress.routes",
    }


def test_encapsulation_between_subnets_is_told_as_it_is_written() -> None:
    cluster = Cluster(
        version="v1", nodes=(), claims={"encapsulation.cross_subnet": Claim("ipip", "IPPool p")}, kube_proxy_daemonsets=(), cni=None
    )
    assert told(explained_text(resolve(None, cluster), cluster, None, ("a",)))["encapsulation"] == ("ipip-cross-subnet", "claim IPPool p")
    native = load_profiles(["native"])
    assert told(explained_text(resolve(native, cluster), cluster, native, ("a",)))["encapsulation"] == (
        "none",
        "profile native.yaml:3; instead of ipip-cross-subnet (claim IPPool p)",
    )


@pytest.mark.parametrize("name", ["list", "show", "schema", "lint", "explain", "init"])
def test_help(name: str) -> None:
    assert profile(name, "--help").exit_code == 0


def test_nothing_to_lint() -> None:
    assert profile("lint").exit_code == 2


def test_a_claim_that_could_not_be_read_is_told_with_what_nobody_says() -> None:
    claims = {"proxy.replaced": Claim(None, "FelixConfiguration: not readable: HTTP 403")}
    told = {item.key: item.origin for item in explain(Expectation(), claims, None)}
    assert told["proxy.mode"] == "nobody says: FelixConfiguration: not readable: HTTP 403"
    assert told["proxy.scheduler"] == "nobody says"
