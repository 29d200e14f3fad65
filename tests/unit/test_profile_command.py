"""`k8snet profile` as a user types it."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_k8snet.cli import main
from pytest_k8snet.expect.profile import json_schema, load_profiles, shipped_profiles


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
    assert "      vm.swappiness: '0'  # profile rich.yaml:8" in lines
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
        (b"\x7fELF\x02\x01\x01\0\0\xff", "p.yaml: not UTF-8 text: byte 9"),
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


@pytest.mark.parametrize("name", ["list", "show", "schema", "lint"])
def test_help(name: str) -> None:
    assert profile(name, "--help").exit_code == 0


def test_nothing_to_lint() -> None:
    assert profile("lint").exit_code == 2
