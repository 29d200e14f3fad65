"""Shards that are joined are judged as one run is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_k8snet.cli import main
from tests.plugin.bench import Bench, Ran

CHANGES = """
    fake.change_facts("node-2", lambda facts: facts["host"]["sysctls"].update({"net.ipv4.ip_forward": "0"}))
    fake.fail_probe("node-4", "node-4: pod probe-node-4: ErrImagePull: no such image")
    fake.not_ready("node-5", "KubeletNotReady: cni")
"""
NODES = ("node-1", "node-2", "node-3", "node-4", "node-5")


@pytest.fixture
def measured(bench: Bench) -> Bench:
    bench.cluster(CHANGES, nodes=NODES)
    return bench


def shard(bench: Bench, text: str, *arguments: str) -> Path:
    name = f"shard-{text.replace('/', '-of-')}.tar.zst"
    bench.run(f"--k8snet-shard={text}", f"--k8snet-save-bundle={name}", *arguments)
    return bench.path / name


def merge(bench: Bench, *bundles: Path) -> Result:
    return CliRunner().invoke(main, ["shards", "merge", *map(str, bundles), "-o", str(bench.path / "whole.tar.zst")])


def replay(bench: Bench, *arguments: str) -> Ran:
    return bench.run(f"--k8snet-replay={bench.path / 'whole.tar.zst'}", *arguments, fake=False)


@pytest.mark.parametrize("way", ["-n2", "-pno:xdist"])
def test_joined_shards_are_judged_as_one_run(measured: Bench, way: str) -> None:
    whole = measured.run("--k8snet-allow-missing=1")
    bundles = [shard(measured, f"{index}/3", "--k8snet-allow-missing=1") for index in range(3)]
    joined = merge(measured, bundles[2], bundles[0], bundles[1])
    assert joined.exit_code == 0, joined.output
    told = re.fullmatch(
        r"(?P<out>.*): 3 shards, begun from [\d-]{10} [\d:]{5} to [\d-]{10} [\d:]{5} UTC: judge it with pytest --k8snet-replay=(?P=out)\n",
        joined.output,
    )
    assert told is not None, joined.output
    ran = replay(measured, way)
    assert ran.status == whole.status == 1
    assert ran.verdicts == whole.verdicts
    texts = {name: case.text for name, case in ran.cases.items()}
    assert "a run in shards asks nobody who has addresses of load balancers" in texts.pop("NET-REACH-006[cluster]")
    assert texts == {name: case.text for name, case in whole.cases.items() if name in texts}
    assert "fail" in ran.verdicts.values()
    assert "error" in ran.verdicts.values()


ROUTES = "ingress: {routes: [{name: plain, ingress_class: nginx, address: 198.51.100.7, drain_s: 1}]}"


def test_requests_through_an_ingress_are_the_first_shards(measured: Bench) -> None:
    measured.write("routes.yaml", ROUTES)
    options = ("--k8snet-profile=routes.yaml", "--k8snet-level=probe", "--k8snet-checks=NET-INGRESS-*,NET-KERNEL-006")
    whole = measured.run(*options, "--k8snet-allow-missing=2")
    bundles = [shard(measured, f"{index}/2", *options, "--k8snet-allow-missing=2") for index in range(2)]
    assert merge(measured, *bundles).exit_code == 0
    ran = replay(measured)
    of_ingress = [name for name in ran.verdicts if name.startswith("NET-INGRESS-00") and int(name[12:15]) > 3]
    assert {name: ran.verdicts[name] for name in of_ingress} == {
        f"NET-INGRESS-00{n}[cluster]": whole.verdicts[f"NET-INGRESS-00{n}[cluster]"] for n in range(4, 10)
    }
    assert {ran.verdicts[name] for name in of_ingress} == {"pass", "skip"}, "skipped is HSTS, which nobody wants"
    assert len([line for line in measured.objects() if line == "+ ingress ingress-1"]) == 2, "the whole run's and the first shard's"


def test_first_shards_that_sent_no_requests_are_told(bench: Bench) -> None:
    bench.write("routes.yaml", ROUTES)
    few = ("--k8snet-checks=NET-MTU-001", "--k8snet-level=probe", "--k8snet-profile=routes.yaml")
    assert merge(bench, *(shard(bench, f"{index}/2", *few) for index in range(2))).exit_code == 0
    ran = replay(bench, "--k8snet-checks=NET-INGRESS-004", "--k8snet-level=probe")
    assert ran.verdicts == {"NET-INGRESS-004[cluster]": "skip"}
    assert "the first shard of the run sent no requests through ways into the cluster" in ran.out


def test_more_shards_than_nodes(bench: Bench) -> None:
    bench.cluster(nodes=("node-1", "node-2"))
    whole = bench.run("--k8snet-level=read")
    joined = merge(bench, *(shard(bench, f"{index}/3", "--k8snet-level=read") for index in range(3)))
    assert joined.exit_code == 0, joined.output
    assert replay(bench).verdicts == whole.verdicts


def test_replay_of_one_shard_judges_nothing_of_the_whole_cluster(bench: Bench) -> None:
    bundle = shard(bench, "0/2", "--k8snet-level=read")
    ran = bench.run(f"--k8snet-replay={bundle}", fake=False)
    assert ran.verdicts
    assert not [name for name in ran.verdicts if name.endswith("[cluster]")]


def test_shards_that_do_not_belong_together(bench: Bench) -> None:
    few = "--k8snet-checks=NET-MTU-*"
    first, second, other = shard(bench, "0/2", few), shard(bench, "1/2", few), shard(bench, "1/3", few)
    harder = bench.path / "harder.tar.zst"
    bench.run("--k8snet-shard=1/2", f"--k8snet-save-bundle={harder}", few, "--k8snet-level=read")
    none = bench.path / "none.tar.zst"
    bench.run(f"--k8snet-save-bundle={none}", few)
    for bundles, words in (
        ([first], "shard 1/2 is missing: every shard of the run is needed"),
        ([first, second, first], f"{first}: shard 0/2 is there twice; the other one is {first}"),
        ([first, other], f"{other}: shard 1/3, and {first} is shard 0/2: they are of different runs"),
        ([first, harder], f"{harder}: was recorded with level read, and {first} with load"),
        ([first, none], f"{none}: not of a shard: it was recorded without --k8snet-shard"),
    ):
        refused = merge(bench, *bundles)
        assert (refused.exit_code, refused.output.strip()) == (1, f"Error: {words}")
        assert not (bench.path / "whole.tar.zst").exists()


UNSEEN = "no shard has measured it: the shards did not begin with the same nodes (one joined or left in between); measure all of them again"


@pytest.mark.parametrize(
    ("first", "second", "unseen", "chosen"),
    [
        (("node-1", "node-2"), ("node-1", "node-2", "node-3"), "node-3", []),  # behind the others: only the second shard has seen it
        (("node-1", "node-2"), ("node-1", "node-2", "node-3"), "node-3", ["--k8snet-nodes=pool=x"]),
        (("node-1", "node-2", "node-3"), ("node-1", "node-3"), "node-2", []),  # amid the others: the second shard counts on from there
        (("node-1", "node-2"), ("node-1",), "node-2", ["--k8snet-nodes=node-*"]),
    ],
    ids=["joined", "joined-selector", "left", "last-left"],
)
def test_a_node_that_is_no_shard_s_is_missing(
    bench: Bench, first: tuple[str, ...], second: tuple[str, ...], unseen: str, chosen: list[str]
) -> None:
    bundles = []
    for index, nodes in enumerate((first, second)):
        bench.cluster("fake.labels = {node: {'pool': 'x'} for node in NODES}", nodes=nodes)
        bundles.append(shard(bench, f"{index}/2", "--k8snet-level=read", "--k8snet-checks=NET-MTU-*,NET-PROXY-*", *chosen))
    assert merge(bench, *bundles).exit_code == 0
    ran = replay(bench)
    assert ran.status == 1
    of_node = {verdict for name, verdict in ran.verdicts.items() if name.endswith(f"[{unseen}]")}
    assert of_node - {"error"} <= {"skip"}  # what the API server's objects answer
    assert f"{unseen}: no facts: {UNSEEN}" in ran.cases[f"NET-MTU-001[{unseen}]"].text
    assert [name for name, case in ran.cases.items() if case.verdict == "error" and UNSEEN not in case.text] == []
    assert ran.line("missing:") == f"missing: {unseen}: {UNSEEN}"
    assert replay(bench, "--k8snet-allow-missing=1").status == 0


def test_a_node_that_is_two_shards_is_judged_once(bench: Bench) -> None:
    bundles = []
    for index, nodes in enumerate((("node-1", "node-2", "node-3"), ("node-1", "node-3"))):
        bench.cluster(nodes=nodes)
        bundles.append(shard(bench, f"{index}/2", "--k8snet-level=read", "--k8snet-checks=NET-MTU-001"))
    assert merge(bench, *bundles).exit_code == 0
    assert replay(bench).verdicts == {"NET-MTU-001[node-1]": "pass", "NET-MTU-001[node-2]": "error", "NET-MTU-001[node-3]": "pass"}


def test_shards_of_another_cluster(bench: Bench) -> None:
    few = ("--k8snet-checks=NET-MTU-001", "--k8snet-level=read")
    bench.cluster(nodes=("red-1", "red-2"))
    red = shard(bench, "0/2", *few)
    bench.cluster(nodes=("blue-1", "blue-2"))
    blue = shard(bench, "1/2", *few)
    refused = merge(bench, red, blue)
    assert (refused.exit_code, refused.output.strip()) == (
        1,
        f"Error: {blue}: is of another cluster than {red}: no node of one has the name and address of one of the other",
    )


def test_shards_of_another_version(bench: Bench) -> None:
    few = ("--k8snet-checks=NET-MTU-001", "--k8snet-level=read")
    folders = [bench.path / f"run-{index}" for index in range(2)]
    for index, folder in enumerate(folders):
        bench.run(f"--k8snet-shard={index}/2", f"--k8snet-run-dir={folder}", *few)
    run = json.loads((folders[1] / "run.json").read_text())
    version = run["versions"]["pytest-k8snet"]
    run["versions"]["pytest-k8snet"] = "0.0.1"
    (folders[1] / "run.json").write_text(json.dumps(run))
    refused = merge(bench, *folders)
    words = f"{folders[1]}: was recorded by pytest-k8snet 0.0.1, and {folders[0]} by {version}"
    assert (refused.exit_code, refused.output.strip()) == (1, f"Error: {words}")


def test_a_shard_is_not_replaced_by_the_whole(bench: Bench) -> None:
    few = ("--k8snet-checks=NET-MTU-001", "--k8snet-level=read")
    bundles = [shard(bench, f"{index}/2", *few) for index in range(2)]
    before = bundles[1].read_bytes()
    ran = CliRunner().invoke(main, ["shards", "merge", *map(str, bundles), "-o", str(bundles[1])])
    assert (ran.exit_code, ran.output.strip()) == (1, f"Error: --out: {bundles[1]}: is of a shard that is joined; name another file")
    assert bundles[1].read_bytes() == before


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    target = tmp_path / "none" / "whole.tar.zst"
    (tmp_path / "shard").touch()
    ran = CliRunner().invoke(main, ["shards", "merge", str(tmp_path / "shard"), "-o", str(target)])
    assert (ran.exit_code, ran.output.strip()) == (1, f"Error: --out: {target}: there is no folder {target.parent}")
