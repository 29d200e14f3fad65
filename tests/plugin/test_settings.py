"""Where settings come from, what starts the suite, and what is said about settings that cannot be used."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_k8snet.catalogue import checks, suite_folder
from tests.plugin.bench import Bench
from tests.unit.fakeapi import write_kubeconfig

OWN = "@check('ACME-1')\ndef test_it(k8snet_node, k8snet_run): print('level', k8snet_run.settings.level)"


def ids(names: Iterable[str]) -> set[str]:
    return {name.partition("[")[0] for name in names}


ALL = {check.id for check in checks()}


@pytest.mark.parametrize(
    ("option", "variable", "ini", "shown"),
    [
        ("read", "probe", "load", "level read (command line)"),
        (None, "probe", "load", "level probe (environment K8SNET_LEVEL)"),
        (None, None, "read", "level read (pytest.ini)"),
        (None, "", "read", "level read (pytest.ini)"),
        (None, None, None, None),
    ],
    ids=["option", "environment", "ini", "empty-variable", "default"],
)
def test_precedence_and_source(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, option: str | None, variable: str | None, ini: str | None, shown: str | None
) -> None:
    bench.checks(OWN)
    bench.write("pytest.ini", "[pytest]\n" + (f"k8snet_level = {ini}\n" if ini else ""))
    if variable is not None:
        monkeypatch.setenv("K8SNET_LEVEL", variable)
    ran = bench.own(*([f"--k8snet-level={option}"] if option else []))
    assert ran.status == 0
    header = "\n".join(ran.lines("k8snet: "))
    if shown is None:
        assert "level " not in header
    else:
        assert shown in header


def test_settings_of_a_toml_file(bench: Bench) -> None:
    bench.checks(OWN)
    bench.write(
        "pyproject.toml",
        '[tool.pytest]\nk8snet_level = "probe"\nk8snet_strict = true\nk8snet_keep_runs = 3\nk8snet_checks = ["ACME-*"]\n',
    )
    ran = bench.own()
    assert ran.status == 0, ran.out
    header = "\n".join(ran.lines("k8snet: "))
    for shown in ("level probe", "strict yes", "keep-runs 3", "checks ACME-*"):
        assert f"{shown} (pyproject.toml)" in header


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k8snet-level=all"], "--k8snet-level: got 'all', want one of read, probe, load"),
        (["--k8snet-access=telnet"], "--k8snet-access: got 'telnet', want one of pod, ssh, local, fake"),
        (["--k8snet-ssh-address=any"], "--k8snet-ssh-address: got 'any', want one of internal, external, hostname"),
        (["--k8snet-pairs=some"], "--k8snet-pairs: got 'some', want auto, all, ring or sample:N with N from 1"),
        (["--k8snet-load-pairs=sample:0"], "--k8snet-load-pairs: got 'sample:0', want auto, all, ring or sample:N with N from 1"),
        (["--k8snet-allow-missing=101%"], "--k8snet-allow-missing: got '101%', want a number of nodes or a share such as 10%"),
        (["--k8snet-lock-wait=soon"], "--k8snet-lock-wait: got 'soon', want a whole number of seconds"),
        (["--k8snet-keep-runs=0"], "--k8snet-keep-runs: got '0', want a whole number of at least 1"),
        (["--k8snet-nodes=node-1,node-9"], "--k8snet-nodes: no node node-9 in the cluster; it has: node-1, node-2, node-3"),
        (["--k8snet-nodes=pool=x"], "--k8snet-nodes: no node of the cluster matches 'pool=x'"),
        (["--k8snet-profile=tuned-nod"], "did you mean 'tuned-node'?"),
        (["--k8snet-profile=p.yaml"], "p.yaml:3: unknown key 'mtu.pods'; did you mean 'pod'?"),
        (["--k8snet-profile=q.yaml"], "q.yaml:2: not valid YAML: "),
        (["--k8snet-run-dir=theirs"], "theirs: is there and not a run of ours; name another one or remove it"),
        (["--k8snet-run-dir=pytest.ini/x"], "pytest.ini/x: cannot be made: Not a directory; name another one with --k8snet-run-dir"),
    ],
    ids=lambda value: str(value[0]).replace("--k8snet-", "") if isinstance(value, list) else "",
)
def test_what_cannot_be_used(bench: Bench, arguments: list[str], message: str) -> None:
    bench.write("p.yaml", "name: x\nmtu:\n  pods: 1500\n")
    bench.write("q.yaml", "a: [b\n- {\n")
    bench.write("pytest.ini", "[pytest]\n")
    bench.write("theirs/precious.txt", "keep")
    ran = bench.run(*arguments)
    assert ran.status == 4
    errors = ran.lines("ERROR: ")
    assert len(errors) == 1
    assert message in errors[0]
    assert "collected" not in ran.out
    assert "Traceback" not in ran.out
    assert bench.objects() == []
    assert (bench.path / "theirs" / "precious.txt").read_text() == "keep"


@pytest.mark.parametrize("ways", ["-pno:xdist", "-n2"])
def test_a_verdict_names_the_profile_that_its_want_is_from(bench: Bench, ways: str) -> None:
    (bench.path / "shared").mkdir()
    bench.write("shared/base.yaml", "mtu:\n  pod: 1400\n  uplink: 1500\n")
    bench.write("ours.yaml", "extends: [shared/base.yaml, ipvs]\n")
    ran = bench.run("--k8snet-profile=ours.yaml", "--k8snet-checks=NET-MTU-001,NET-PROXY-001", "--k8snet-nodes=node-1", ways)
    assert ran.verdicts == {"NET-MTU-001[node-1]": "fail", "NET-PROXY-001[node-1]": "pass"}
    mtu, proxy = ran.cases["NET-MTU-001[node-1]"].properties, ran.cases["NET-PROXY-001[node-1]"].properties
    assert "MTU 1500, want 1400 (profile base.yaml:2) (ip -j route)" in mtu["k8snet_message"]
    assert mtu["k8snet_origin"] == "profile base.yaml:2"
    assert proxy["k8snet_wanted"] == "kube-proxy in mode ipvs (profile ipvs.yaml:4)"


@pytest.mark.parametrize("ways", ["-pno:xdist", "-n2"])
def test_encapsulation_between_subnets(bench: Bench, ways: str) -> None:
    """Node-2 and node-3 are in one subnet, node-1 is in another; node-3 puts into VXLAN what should go as it is."""
    bench.cluster("""
    tunnel = {"ifname": "v", "mtu": 1450, "linkinfo": {"info_kind": "vxlan"}}
    for node, subnet in (("node-1", "192.168.10.10/31"), ("node-2", "192.168.10.12/31"), ("node-3", "192.168.10.12/31")):
        fake.change_facts(node, lambda facts: facts["host"]["links"].append(tunnel))
        fake.change_facts(node, lambda facts, subnet=subnet: facts["host"]["routes"].append({"dst": subnet, "dev": "eth0"}))
    for node in ("node-1", "node-3"):
        fake.change_facts(node, lambda facts: [route.update(dev="v") for route in facts["peer_routes"]])
    far = lambda routes: {**routes[0], "dev": "v", "peers": {"node-1": routes[0]["peers"].pop("node-1")}}
    fake.change_facts("node-2", lambda facts: facts["peer_routes"].append(far(facts["peer_routes"])))
    """)
    bench.write("p.yaml", "encapsulation: VXLANCrossSubnet\n")
    ran = bench.run("--k8snet-profile=p.yaml", "--k8snet-checks=NET-ENCAP-001", ways)
    assert ran.verdicts == {"NET-ENCAP-001[node-1]": "pass", "NET-ENCAP-001[node-2]": "pass", "NET-ENCAP-001[node-3]": "fail"}
    message = ran.cases["NET-ENCAP-001[node-3]"].properties["k8snet_message"]
    assert "(a pod of node-2) leaves by v (vxlan), a tunnel; want encapsulation none (within a subnet, profile p.yaml:1)" in message
    assert "node-1" not in message


CHECKS = "@check('ACME-1')\ndef test_one(k8snet_node): assert k8snet_node.facts.kernel\n"


@pytest.mark.parametrize("way", ["-pno:xdist", "-n2"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("NET-MTU-001,NET-MUT-002", "there is no check 'NET-MUT-002'; did you mean 'NET-MTU-002'?"),
        ("net-mtu-001", "there is no check 'net-mtu-001'; did you mean 'NET-MTU-001'?"),
        ("mtu", "there is no check 'mtu'; `k8snet checks` lists them"),
        ("NET-MUT-*", "there is no check 'NET-MUT-*'; `k8snet checks` lists them"),
        ("ACME-1,ACME-2", "there is no check 'ACME-2'; did you mean 'ACME-1'?"),
    ],
)
def test_checks_that_there_are_not(bench: Bench, given: str, message: str, way: str) -> None:
    bench.checks(CHECKS)
    ran = bench.own(f"--k8snet-checks={given}", way)
    assert ran.status != 0
    assert ran.line("ERROR: ") == f"ERROR: --k8snet-checks: {message}"
    assert not ran.cases
    if "NET-" in given.upper():
        assert (ran.status, bench.objects()) == (4, []), "nothing has to be collected to know it"


def test_checks_of_files_that_are_not_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.checks(CHECKS)
    ran = bench.own("--k8snet-checks=NET-MTU-001,ACME-*")
    assert (ran.status, {*ran.verdicts.values()}) == (0, {"pass"})
    monkeypatch.setenv("K8SNET_CHECKS", "ACME-1,ACME-9")
    assert bench.own().status == 0, "it may be of another file"
    monkeypatch.setenv("K8SNET_CHECKS", "ACME-1,NET-MTU-999")
    words = "ERROR: --k8snet-checks (environment K8SNET_CHECKS): there is no check 'NET-MTU-999'; did you mean '"
    assert bench.own().line("ERROR: ").startswith(words)


def test_a_file_that_cannot_be_read_may_have_the_check(bench: Bench) -> None:
    bench.checks("import nothing_like_that")
    ran = bench.own("--k8snet-checks=ACME-1")
    assert ran.status == 2
    assert "No module named 'nothing_like_that'" in ran.out
    assert "there is no check" not in ran.out


def test_mistakes_under_xdist(bench: Bench) -> None:
    for arguments in (["--k8snet-level=all"], ["--k8snet-nodes=node-9"]):
        ran = bench.run("-n2", *arguments)
        assert ran.status == 4
        assert len(ran.lines("ERROR: ")) == 1
        assert "INTERNALERROR" not in ran.out


def test_mistakes_name_their_source(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("pytest.ini", "[pytest]\nk8snet_access = telnet\n")
    assert bench.run(fake=False).line("ERROR:") == "ERROR: k8snet_access in pytest.ini: got 'telnet', want one of pod, ssh, local, fake"
    monkeypatch.setenv("K8SNET_STRICT", "perhaps")
    assert bench.run().line("ERROR:") == "ERROR: K8SNET_STRICT: got 'perhaps', want yes or no"


@pytest.mark.parametrize("key", ["k8snet_profiles", "k8snet-profile", "K8SNET_PROFILE"])
def test_a_key_that_is_nearly_a_setting_s(bench: Bench, key: str) -> None:
    """Pytest would warn, and the suite would be judged without the profile."""
    bench.write("pytest.ini", f"[pytest]\n{key} = production\n")
    ran = bench.run()
    assert ran.status == 4
    assert ran.line("ERROR:") == f"ERROR: {key} in pytest.ini: there is no such setting; did you mean k8snet_profile?"
    bench.write("test_plain.py", "def test_it(): pass\n")
    assert bench.run("test_plain.py", fake=False).status == 0, "nothing is tested"


def test_a_key_of_the_user_s_own(bench: Bench) -> None:
    conftest = (bench.path / "conftest.py").read_text()
    bench.write("conftest.py", f"{conftest}\ndef pytest_addoption(parser):\n    parser.addini('k8snet_profile_2', 'ours', default='')\n")
    bench.write("pytest.ini", "[pytest]\nk8snet_profile_2 = x\nk8snet_team = y\n")
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): pass")
    assert bench.own().status == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("folder", "Is a directory"),
        ("a: [b\n - {", "not YAML"),
        ("", "not a kubeconfig (no contexts)"),
        ("just text", "not a kubeconfig"),
    ],
    ids=["missing", "directory", "garbage", "empty", "text"],
)
def test_kubeconfig_that_cannot_be_used(bench: Bench, content: str | None, message: str) -> None:
    path = bench.path / "config"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    ran = bench.run(f"--k8snet-kubeconfig={path}", fake=False)
    assert ran.status == 4
    assert len(ran.lines("ERROR: ")) == 1
    assert ran.line("ERROR: ").startswith(f"ERROR: kubeconfig {path}")
    assert message in ran.out
    assert "test session starts" not in ran.out
    assert "Traceback" not in ran.out


def test_context_that_is_not_there(bench: Bench) -> None:
    path = write_kubeconfig(bench.path / "config", "http://127.0.0.1:9")
    ran = bench.run(f"--k8snet-kubeconfig={path}", "--k8snet-context=staging", fake=False)
    assert ran.status == 4
    assert ran.line("ERROR: ").startswith(f"ERROR: kubeconfig {path}: no context 'staging'; it has: ")


def test_cluster_that_does_not_answer(bench: Bench) -> None:
    path = write_kubeconfig(bench.path / "config", "http://127.0.0.1:9")
    ran = bench.run(f"--k8snet-kubeconfig={path}", fake=False)
    assert ran.status == 1
    assert "k8snet: http://127.0.0.1:9: no connection: [Errno 111] Connection refused. " in ran.out
    assert f"Is the cluster up, and reachable from here (kubeconfig {path})?" in ran.out
    assert "Traceback" not in ran.out
    assert not (bench.path / ".k8snet").exists()


# ---- what starts the suite


def test_the_command_line_starts_the_suite(bench: Bench) -> None:
    bench.checks(OWN)
    ran = bench.run()
    assert ran.status == 0
    assert ids(ran.cases) == ALL


def test_paths_are_all_that_is_run(bench: Bench) -> None:
    bench.checks(OWN)
    assert ids(bench.run("test_own.py").cases) == {"ACME-1"}


def test_the_suite_is_added_to_testpaths(bench: Bench) -> None:
    bench.checks(OWN, "checks/test_own.py")
    bench.write("elsewhere/test_other.py", "def test_it(): assert 0\n")
    bench.write("pytest.ini", "[pytest]\ntestpaths = checks\n")
    ran = bench.run()
    assert ran.status == 0
    assert ids(ran.cases) == {*ALL, "ACME-1"}
    assert ids(bench.own().cases) == {"ACME-1"}


@pytest.mark.parametrize("source", ["environment", "ini"])
def test_other_sources_do_not_start_it(bench: Bench, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    bench.checks(OWN)
    if source == "environment":
        monkeypatch.setenv("K8SNET_ACCESS", "fake")
    else:
        bench.write("pytest.ini", "[pytest]\nk8snet_access = fake\n")
    ran = bench.run(fake=False)
    assert ran.status == 0
    assert ids(ran.cases) == {"ACME-1"}
    where = "environment K8SNET_ACCESS" if source == "environment" else "pytest.ini"
    assert ran.line("k8snet: ") == f"k8snet: access fake ({where}); the cluster is left alone until a check asks for it"


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_a_cluster_of_the_environment_is_left_alone_by_other_tests(bench: Bench, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    bench.write("test_plain.py", "def test_it(): pass\n")
    monkeypatch.setenv("K8SNET_ACCESS", "fake")
    ran = bench.run(way, fake=False)
    assert ran.status == 0
    assert bench.objects() == []


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_a_cluster_of_the_environment_for_own_checks(bench: Bench, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    bench.checks("@check('ACME-1')\ndef test_it(k8snet_node): assert k8snet_node.facts.kernel")
    bench.write("test_plain.py", "def test_it(): pass\n")
    monkeypatch.setenv("K8SNET_ACCESS", "fake")
    ran = bench.run(way, fake=False)
    assert ran.status == 0
    assert {name: verdict for name, verdict in ran.verdicts.items() if verdict} == {
        f"ACME-1[node-{number}]": "pass" for number in (1, 2, 3)
    }
    bench.assert_removed()


@pytest.mark.parametrize(("way", "kubeconfig"), [("-n2", "silent"), ("-pno:xdist", "missing"), ("-pno:xdist", "silent")])
def test_a_bad_kubeconfig_of_the_environment_hurts_only_checks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, way: str, kubeconfig: str
) -> None:
    bench.checks(OWN)
    bench.write("test_plain.py", "def test_it(): pass\n")
    path = bench.path / "config"
    if kubeconfig == "silent":
        write_kubeconfig(path, "http://127.0.0.1:9")
    monkeypatch.setenv("K8SNET_KUBECONFIG", str(path))
    ran = bench.run(way, fake=False)
    assert ran.status == 1
    case = ran.cases["ACME-1[(none)]"]
    assert case.outcome == "error"
    assert ("there is no such file" if kubeconfig == "missing" else "no connection") in case.text
    assert ran.cases["test_it"].outcome == "passed"
    assert "Traceback" not in ran.out


def test_checks_without_any_cluster(bench: Bench) -> None:
    bench.checks(OWN)
    ran = bench.run(fake=False)
    assert ran.status == 1
    assert "no cluster to test: name one with --k8snet-kubeconfig=FILE" in ran.out


@pytest.mark.parametrize(
    "arguments", [["--pyargs", "pytest_k8snet.conformance.mtu"], [str(suite_folder() / "mtu")]], ids=["pyargs", "path"]
)
def test_the_suite_by_name(bench: Bench, arguments: list[str]) -> None:
    # A conftest beside neither of them: the hook has to come with the command line.
    bench.pytester.makepyfile(cluster_plugin=(bench.path / "conftest.py").read_text())
    bench.pytester.syspathinsert()
    (bench.path / "conftest.py").unlink()
    ran = bench.run("-p", "cluster_plugin", f"--k8snet-run-dir={bench.path / 'run'}", *arguments, own_process=True)
    assert ran.status == 0, ran.out
    assert ids(ran.cases) == {check.id for check in checks() if check.area == "mtu"}
    assert {case.classname for case in ran.cases.values()} == {"k8snet.mtu"}


def test_the_suite_in_the_checkout(bench: Bench) -> None:
    """`pytest conformance`, with the checkout as the root folder, is the same suite."""
    root = Path(__file__).parents[2]
    bench.pytester.makepyfile(cluster_plugin=(bench.path / "conftest.py").read_text())
    line = [sys.executable, "-m", "pytest", "-p", "cluster_plugin", "conformance/proxy", "--k8snet-access=fake", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*line, f"--k8snet-run-dir={bench.path / 'run'}", "-v"],
        cwd=root,
        env={"PYTHONPATH": str(bench.path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "conformance/proxy/test_mode.py::test_mode[node-1] PASSED" in ran.stdout
    bench.assert_removed()


def test_files_of_the_suite_have_names_wherever_it_is(bench: Bench) -> None:
    ran = bench.run("--collect-only", "-q")
    items = [line for line in ran.out.splitlines() if "::" in line]
    assert "pytest_k8snet/conformance/proxy/test_mode.py::test_mode[node-1]" in items
    assert len(items) == len(set(items))
    assert all(item.startswith("pytest_k8snet/conformance/") for item in items)


def test_a_user_s_own_patterns_leave_no_check_out(bench: Bench) -> None:
    patterns = (
        "python_files = check_*.py",
        "python_functions = should_*",
        "python_classes = When*",
        "norecursedirs = proxy mtu conformance",
    )
    bench.write("pytest.ini", "\n".join(["[pytest]", *patterns]))
    assert ids(bench.run().cases) == ALL


def test_no_fake_cluster(bench: Bench) -> None:
    bench.write("conftest.py", "")
    ran = bench.run()
    assert ran.status == 4
    assert ran.line("ERROR:") == (
        "ERROR: --k8snet-access=fake: no conftest.py implements pytest_k8snet_fake(config); it returns a FakeCluster"
    )


PLAN = """\
Plan: 2 checks, 5 cases; nothing is run, and nothing is created.
  NET-MTU-001 (read) pods use exactly the MTU they are meant to have: node-1, node-2, node-3
  NET-THROUGHPUT-001 (load) pods reach each other as fast as their nodes do: node-1:node-2, node-2:node-1
  left out by --k8snet-checks: 89

Nodes: 2 of 4: node-1, node-2
  cannot be measured: node-3: NotReady: gone
  left out: node-4: is a virtual kubelet

Pairs of nodes for checks that send little (auto): node-1:node-2, node-2:node-1
Pairs of nodes under load (sample:4): node-1:node-2, node-2:node-1
  load: 2 pairs of nodes, one at a time, 3 takes of 4 s (up to 7 if they disagree), at most 550 MB at the line rate

Objects, made when the run begins and removed when it ends:
  Namespace k8snet-<run id>: for the pods, with the Pod Security level privileged
  PriorityClass k8snet-<run id>: the lowest, never preempting; a run that may not make it goes without
  2 Pods host-<node> in k8snet-<run id>: privileged, hostNetwork and hostPID: only so the node's kernel and the networks of other pods can \
be read
  2 Pods probe-<node> in k8snet-<run id>: unprivileged, in the pod network
  Lease k8snet-load in default: held while load is measured, so that no other run measures any meanwhile
  Namespaces and PriorityClasses of killed runs, past their deadline: removed when the run begins
  Image of the pods: r/probe:1, without a pull secret

Rights (`k8snet manifests rbac --level load` prints a role that has them):
  in the whole cluster: list nodes; list daemonsets.apps; list services; list endpointslices.discovery.k8s.io; create and delete namespaces
  in kube-system: list pods; get configmaps cilium-config, k8snet-lab-network, kube-proxy, kube-proxy-config
  in k8snet-<run id>: create and list pods; create and get pods/exec; create services
  in default: create leases.coordination.k8s.io; get, update and delete leases.coordination.k8s.io k8snet-load
  None of them is known to be missing.

Time: about 50 s, up to 2 min where takes disagree. An estimate: pulling images, waiting for another run and reading again what was in \
motion come on top.
"""


def test_dry_run(bench: Bench) -> None:
    nodes = ("node-1", "node-2", "node-3", "node-4")
    bench.cluster("fake.not_ready('node-3', 'gone')\nfake.exclude('node-4', 'is a virtual kubelet')", nodes=nodes)
    ran = bench.run(
        "--k8snet-dry-run", "--k8snet-checks=NET-MTU-001,NET-THROUGHPUT-001", "--k8snet-profile=lab", "--k8snet-image=r/probe:1"
    )
    assert ran.status == 0
    shown = re.sub(r"(left out by \S+: )\d+", r"\g<1>89", ran.out[ran.out.index("Plan: ") :])  # the number grows with the suite
    assert shown.startswith(PLAN)
    assert ran.cases == {}
    assert bench.objects() == []


def test_dry_run_without_load_in_a_namespace_that_is_there(bench: Bench) -> None:
    bench.cluster("fake.lacking_rights = 'the identity of x lacks: create pods in net.'")
    ran = bench.run("--k8snet-dry-run", "--k8snet-level=read", "--k8snet-namespace=net", "--k8snet-image-pull-secret=regcred")
    assert ran.status == 0
    assert ran.line("Pairs of nodes under load") == "Pairs of nodes under load (sample:4): none"
    assert "  Namespace" not in ran.out
    assert "Lease" not in ran.out
    assert ran.line("  Image of the pods: ").endswith(", with the pull secret regcred of net")
    assert ran.line("  in net: ") == "  in net: create, deletecollection and list pods; create and get pods/exec"
    assert ran.line("  Missing: ") == "  Missing: the identity of x lacks: create pods in net."
    assert ran.line("Time: ").startswith("Time: about 20 s. An estimate: ")


def test_dry_run_of_one_who_may_not_even_read(bench: Bench) -> None:
    bench.cluster("""
        from pytest_k8snet.errors import AuthenticationError
        fake.lacking_rights = "the identity of x lacks: list nodes; list services."
        fake.read_error = AuthenticationError("GET /api/v1/nodes: HTTP 403")
    """)
    ran = bench.run("--k8snet-dry-run")
    assert ran.status == 1
    assert ran.line("Exit: ") == "Exit: k8snet: the identity of x lacks: list nodes; list services."


def test_dry_run_with_a_pull_secret_that_cannot_be_there(bench: Bench) -> None:
    ran = bench.run("--k8snet-dry-run", "--k8snet-image-pull-secret=regcred", "--k8snet-no-lock")
    assert ran.line("  Image of the pods: ").endswith("regcred, which a namespace of the run's own has not: name one that has it")
    assert "Lease" not in ran.out
    assert "leases" not in ran.out


@pytest.mark.parametrize("nodes", ["node-1,node-3", "pool=a"])
def test_nodes(bench: Bench, nodes: str) -> None:
    bench.cluster("fake.labels.update({'node-1': {'pool': 'a'}, 'node-3': {'pool': 'a', 'x': 'y'}})")
    bench.checks(OWN)
    ran = bench.own(f"--k8snet-nodes={nodes}")
    assert set(ran.cases) == {"ACME-1[node-1]", "ACME-1[node-3]"}
    assert ran.line("k8snet: left out") == "k8snet: left out: node-2 (not in --k8snet-nodes)"
    assert len([line for line in bench.objects() if line.startswith("+ pod")]) == 4
