from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import ConfigurationError, RecordError
from pytest_k8snet.options import DECIDING, OF_MEASURING, OF_PODS, SETTINGS, WAYS, Missing, PairChoice, Settings, resolve


class Config:
    """As much of `pytest.Config` as `resolve` looks at."""

    inipath = Path("/project/pytest.ini")

    def __init__(self, options: dict[str, Any] | None = None, ini: dict[str, Any] | None = None) -> None:
        self._options = options or {}
        self._ini = ini or {}

    def getoption(self, name: str, default: Any = None) -> Any:
        return self._options.get(name, default)

    def getini(self, name: str) -> Any:
        return self._ini.get(name)


def settings(
    options: dict[str, Any] | None = None, environment: dict[str, str] | None = None, ini: dict[str, Any] | None = None
) -> Settings:
    config: Any = Config(options, ini)
    return resolve(config, environment or {})


def test_table_and_dataclass_agree() -> None:
    assert {setting.field for setting in SETTINGS} | {"sources"} == {field.name for field in fields(Settings)}
    defaults = Settings()
    for setting in SETTINGS:
        assert getattr(defaults, setting.field) == setting.default, setting.name
    assert settings() == Settings(sources={setting.field: "default" for setting in SETTINGS})


def test_names_follow_from_one() -> None:
    setting = next(setting for setting in SETTINGS if setting.name == "image-pull-secret")
    assert (setting.option, setting.variable, setting.ini) == (
        "--k8snet-image-pull-secret",
        "K8SNET_IMAGE_PULL_SECRET",
        "k8snet_image_pull_secret",
    )


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("kubeconfig", "~/x", str(Path("~/x").expanduser())),
        ("kubeconfig", "in-cluster", "in-cluster"),
        ("profile", ["a,b", "c"], ("a", "b", "c")),
        ("checks", ["NET-MTU-*", " NET-PROXY-001 , "], ("NET-MTU-*", "NET-PROXY-001")),
        ("pairs", "all", PairChoice("all")),
        ("load_pairs", "sample:12", PairChoice("sample", 12)),
        ("allow_missing", "3", Missing(3)),
        ("allow_missing", "10%", Missing(10, percent=True)),
        ("keep_runs", "3", 3),
        ("streams", "0", 0),
        ("conntrack_burst", "0", 0),
        ("ssh_port", "65535", 65535),
        ("strict", True, True),
        ("level", "probe", "probe"),
    ],
)
def test_from_the_command_line(name: str, given: Any, value: Any) -> None:
    found = settings({f"k8snet_{name}": given})
    assert getattr(found, name) == value
    assert found.sources[name] == "command line"


@pytest.mark.parametrize(
    ("variable", "given", "name", "value"),
    [
        ("K8SNET_PROFILE", "ipvs, lab", "profile", ("ipvs", "lab")),
        ("K8SNET_CHECKS", "NET-A-* NET-B-*", "checks", ("NET-A-*", "NET-B-*")),
        ("K8SNET_STRICT", "1", "strict", True),
        ("K8SNET_STRICT", "No", "strict", False),
        ("K8SNET_STRICT", "", "strict", False),
        ("K8SNET_KEEP_RUNS", "2", "keep_runs", 2),
        ("K8SNET_RUN_DIR", "~/r", "run_dir", str(Path("~/r").expanduser())),
    ],
)
def test_from_the_environment(variable: str, given: str, name: str, value: Any) -> None:
    found = settings(environment={variable: given})
    assert getattr(found, name) == value
    assert found.sources[name] == f"environment {variable}"


DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    "image",
    [
        *("netshoot", "nicolaka/netshoot", "docker.io/nicolaka/netshoot:v0.15", "localhost:5000/a/b_c__d-e--f.g:Tag_1.2-3"),
        *(
            "192.0.2.1:5000/probe",
            "[2001:db8::1]:5000/probe:1",
            "Registry.Example.com/probe",
            f"r.example/probe{DIGEST}",
            f"r/probe:1{DIGEST}",
        ),
    ],
)
def test_image(image: str) -> None:
    assert settings({"k8snet_image": f" {image} "}).image == image


@pytest.mark.parametrize(
    "image", ["a b", "r.example/Probe:1", "probe:", "-x", "r.example/", "probe:a:b", "https://r.example/probe", "$IMAGE"]
)
def test_what_is_no_image(image: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings({"k8snet_image": image})
    want = "want the reference of an image, such as registry.example.com/netshoot:v0.15"
    assert str(caught.value) == f"--k8snet-image: got {image!r}, {want}"


@pytest.mark.parametrize("image", ["me:s3cret@r.example/probe", "probe@sha256:12"])
def test_what_is_no_image_and_may_hold_a_password(image: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--k8snet-image: want the reference of an image, such as registry"):
        settings({"k8snet_image": image})


@pytest.mark.parametrize(("name", "metavar"), [("profile", "PROFILE"), ("checks", "IDS")])
def test_nothing_in_place_of_a_list(name: str, metavar: str) -> None:
    option = f"k8snet_{name}"
    for given in ([""], [" , "], ["a", ""]):
        with pytest.raises(ConfigurationError) as caught:
            settings({option: given})
        assert str(caught.value) == f"--k8snet-{name}: got '', want {metavar}; leave the option out where none is meant"
    with pytest.raises(ConfigurationError, match="got ''"):
        settings({option: ["a", ""]}, {option.upper(): "b"})
    for options, environment, ini in (({"k8snet_replay": "r"}, {}, {}), ({}, {option.upper(): "b"}, {}), ({}, {}, {option: ["b"]})):
        assert getattr(settings({**options, option: [""]}, environment, ini), name) == (), "it takes back what is given elsewhere"


def test_precedence() -> None:
    ini = {"k8snet_profile": ["c"], "k8snet_level": "load", "k8snet_context": "ini"}
    found = settings({"k8snet_profile": ["a"]}, {"K8SNET_PROFILE": "b", "K8SNET_LEVEL": "read"}, ini)
    assert (found.profile, found.level, found.context) == (("a",), "read", "ini")
    assert [found.sources[name] for name in ("profile", "level", "context")] == ["command line", "environment K8SNET_LEVEL", "pytest.ini"]
    assert found.shown() == [
        ("context", "ini", "pytest.ini"),
        ("profile", "a", "command line"),
        ("level", "read", "environment K8SNET_LEVEL"),
    ]


def test_an_empty_variable_is_not_set() -> None:
    assert settings(environment={"K8SNET_KUBECONFIG": "", "K8SNET_LEVEL": ""}).kubeconfig is None


@pytest.mark.parametrize(
    ("options", "environment", "ini", "message"),
    [
        ({"k8snet_level": "x"}, {}, {}, "--k8snet-level: got 'x', want one of read, probe, load"),
        ({}, {"K8SNET_KEEP_RUNS": "-1"}, {}, "K8SNET_KEEP_RUNS: got '-1', want a whole number of at least 1"),
        ({}, {}, {"k8snet_pairs": "sample"}, "k8snet_pairs in pytest.ini: got 'sample', want auto, all, ring or sample:N with N from 1"),
        ({"k8snet_streams": "17"}, {}, {}, "--k8snet-streams: got '17', want a whole number of at least 0 and at most 16"),
        ({"k8snet_ssh_port": "70000"}, {}, {}, "--k8snet-ssh-port: got '70000', want a whole number of at least 1 and at most 65535"),
        ({"k8snet_context": " "}, {}, {}, "--k8snet-context: got ' ', want a value that is not empty"),
        ({"k8snet_shard": "3/3"}, {}, {}, "--k8snet-shard: got '3/3', want I/N with I from 0 to N-1, such as 0/3"),
        ({"k8snet_shard": "1"}, {}, {}, "--k8snet-shard: got '1', want I/N with I from 0 to N-1, such as 0/3"),
        ({"k8snet_allow_missing": "ten"}, {}, {}, "--k8snet-allow-missing: got 'ten', want a number of nodes or a share such as 10%"),
        ({}, {"K8SNET_STRICT": "maybe"}, {}, "K8SNET_STRICT: got 'maybe', want yes or no"),
        (
            {"k8snet_namespace": "../x"},
            {},
            {},
            "--k8snet-namespace: got '../x', want the name of a namespace: lower-case letters, digits and '-'",
        ),
    ],
)
def test_what_is_refused(options: dict[str, Any], environment: dict[str, str], ini: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(options, environment, ini)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "environment", "active", "asked_for"),
    [
        ({}, {}, False, False),
        ({"k8snet_kubeconfig": "f"}, {}, True, True),
        ({}, {"K8SNET_KUBECONFIG": "f"}, True, False),
        ({"k8snet_access": "fake"}, {}, True, True),
        ({}, {"K8SNET_ACCESS": "fake"}, True, False),
        ({"k8snet_access": "pod"}, {}, False, False),
        ({"k8snet_access": "pod"}, {"K8SNET_KUBECONFIG": "f"}, True, False),
        ({"k8snet_replay": "f"}, {}, True, True),
        ({}, {"K8SNET_REPLAY": "f"}, True, False),
    ],
)
def test_what_asks_for_a_cluster(options: dict[str, Any], environment: dict[str, str], active: bool, asked_for: bool) -> None:
    found = settings(options, environment)
    assert (found.active, found.asked_for) == (active, asked_for)


@pytest.mark.parametrize(("missing", "of", "number"), [("0", 9, 0), ("3", 2, 3), ("10%", 9, 0), ("10%", 10, 1), ("100%", 7, 7)])
def test_missing(missing: str, of: int, number: int) -> None:
    assert settings({"k8snet_allow_missing": missing}).allow_missing.of(of) == number
    assert str(settings({"k8snet_allow_missing": missing}).allow_missing) == missing


def test_levels() -> None:
    assert [settings({"k8snet_level": "probe"}).allows(level) for level in ("read", "probe", "load")] == [True, True, False]


def test_record_names_values_and_sources() -> None:
    recorded = settings({"k8snet_kubeconfig": "/x", "k8snet_strict": True}).to_json()
    assert recorded["kubeconfig"] == {"value": "/x", "source": "command line"}
    assert recorded["strict"] == {"value": "yes", "source": "command line"}
    assert recorded["context"] == {"value": "", "source": "default"}
    assert recorded["load-pairs"] == {"value": "sample:4", "source": "default"}


# ---- replay


@pytest.mark.parametrize(
    ("options", "environment", "ini", "chosen"),
    [
        ({"k8snet_replay": "r"}, {}, {}, "replay"),
        ({"k8snet_replay": "r"}, {"K8SNET_KUBECONFIG": "k", "K8SNET_CONTEXT": "c", "K8SNET_ACCESS": "fake"}, {}, "replay"),
        ({"k8snet_replay": "r"}, {}, {"k8snet_kubeconfig": "k"}, "replay"),
        ({}, {"K8SNET_REPLAY": "r"}, {"k8snet_kubeconfig": "k"}, "replay"),
        ({"k8snet_kubeconfig": "k"}, {"K8SNET_REPLAY": "r"}, {}, "kubeconfig"),
        ({"k8snet_kubeconfig": "k", "k8snet_context": "c"}, {"K8SNET_REPLAY": "r"}, {}, "kubeconfig"),
        ({}, {"K8SNET_KUBECONFIG": "k"}, {"k8snet_replay": "r"}, "kubeconfig"),
        ({"k8snet_access": "fake"}, {"K8SNET_REPLAY": "r"}, {}, "fake"),
    ],
)
def test_a_replay_or_a_cluster(options: dict[str, Any], environment: dict[str, str], ini: dict[str, Any], chosen: str) -> None:
    found = settings(options, environment, ini)
    shown = {name for name, _, _ in found.shown()}
    if chosen == "replay":
        assert (found.replay, found.kubeconfig, found.context, found.access) == ("r", None, None, "replay")
        assert shown == {"replay", "access"}
        assert found.sources["access"] == found.sources["replay"]
    else:
        assert found.replay is None
        assert "replay" not in shown
        assert (found.kubeconfig == "k") == (chosen == "kubeconfig")
        assert found.access == ("fake" if chosen == "fake" else "pod")


@pytest.mark.parametrize(
    ("options", "environment", "ini", "name"),
    [
        ({"k8snet_replay": "r", "k8snet_kubeconfig": "k"}, {}, {}, "kubeconfig"),
        ({"k8snet_replay": "r", "k8snet_context": "c"}, {}, {}, "context"),
        ({"k8snet_replay": "r", "k8snet_access": "pod"}, {}, {}, "access"),
        ({"k8snet_context": "c"}, {"K8SNET_REPLAY": "r"}, {}, "context"),
        ({}, {"K8SNET_REPLAY": "r", "K8SNET_KUBECONFIG": "k"}, {}, "kubeconfig"),
        ({}, {}, {"k8snet_replay": "r", "k8snet_kubeconfig": "k"}, "kubeconfig"),
    ],
)
def test_a_replay_and_a_cluster(options: dict[str, Any], environment: dict[str, str], ini: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(options, environment, ini)
    assert str(caught.value) == f"--k8snet-replay and --k8snet-{name}: a replay reaches no cluster; give one of them"


IN_A_REPLAY = "has no effect in a replay, where nothing is measured; leave it out"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k8snet_replay": "r", "k8snet_udp": "10mbit"}, f"--k8snet-udp: {IN_A_REPLAY}"),
        ({"k8snet_replay": "r", "k8snet_ssh_user": "u"}, f"--k8snet-ssh-user: {IN_A_REPLAY}"),
        ({"k8snet_replay": "r", "k8snet_no_lock": True}, f"--k8snet-no-lock: {IN_A_REPLAY}"),
        (
            {"k8snet_kubeconfig": "k", "k8snet_ssh_key": "/k"},
            "--k8snet-ssh-key: has no effect with --k8snet-access=pod; it is for --k8snet-access=ssh",
        ),
        (
            {"k8snet_kubeconfig": "k", "k8snet_access": "ssh", "k8snet_namespace": "net"},
            "--k8snet-namespace: has no effect with --k8snet-access=ssh; it is for --k8snet-access=pod",
        ),
        (
            {"k8snet_kubeconfig": "k", "k8snet_access": "local", "k8snet_idle": "9"},
            "--k8snet-idle: has no effect with --k8snet-access=local; it is for --k8snet-access=pod",
        ),
    ],
)
def test_what_is_said_in_vain(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(options)
    assert str(caught.value) == message
    (said,) = (name for name in options if name not in ("k8snet_replay", "k8snet_kubeconfig", "k8snet_access"))
    others = {name: value for name, value in options.items() if name != said}
    assert settings(others, {said.upper(): str(options[said])}), "in the environment it may be for other runs"
    assert settings({said: options[said]}), "nothing is tested"


def test_what_another_option_makes_vain() -> None:
    cluster = {"k8snet_kubeconfig": "k"}
    with pytest.raises(ConfigurationError, match=r"^--k8snet-conntrack-burst-anyway: has no effect without --k8snet-conntrack-burst=N$"):
        settings({**cluster, "k8snet_conntrack_burst_anyway": True})
    assert settings({**cluster, "k8snet_conntrack_burst_anyway": True}, {"K8SNET_CONNTRACK_BURST": "9"})
    assert settings({**cluster, "k8snet_lock_wait": "9"}, {"K8SNET_NO_LOCK": "1"})
    with pytest.raises(ConfigurationError) as caught:
        settings({"k8snet_kubeconfig": "in-cluster", "k8snet_context": "prod"})
    assert str(caught.value) == (
        "--k8snet-context: has no effect with --k8snet-kubeconfig=in-cluster, the cluster that the pod itself is in; leave it out"
    )
    assert settings({"k8snet_kubeconfig": "in-cluster"}, {"K8SNET_CONTEXT": "prod"})
    with pytest.raises(ConfigurationError) as caught:
        settings({**cluster, "k8snet_lock_wait": "9", "k8snet_no_lock": True})
    assert str(caught.value) == "--k8snet-lock-wait: has no effect with --k8snet-no-lock, which waits for no other run; give one of them"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("K8SNET_PROFILES", "K8SNET_PROFILE"),
        ("K8SNET_CHECK", "K8SNET_CHECKS"),
        ("K8SNET_NODE", "K8SNET_NODES"),
        ("K8SNET_LEVL", "K8SNET_LEVEL"),
        ("K8SNET_ALLOW_MISSNG", "K8SNET_ALLOW_MISSING"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_s(name: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings({"k8snet_kubeconfig": "k"}, {name: "x"})
    assert str(caught.value) == f"environment variable {name}: there is no such setting; did you mean {meant}?"
    assert settings({}, {name: "x"}), "nothing is tested"


@pytest.mark.parametrize(
    "name",
    [
        *("K8SNET_TEAM", "K8SNET_CACHE", "K8SNET_LAB", "K8SNET_TEST_LAB", "K8SNET_DEBIAN_MIRROR", "K8SNET_SSH_PASSPHRASE"),
        *("K8SNET_SERVICE_HOST", "K8SNET_SERVICE_PORT", "K8SNET_SERVICE_PORT_HTTPS", "K8SNET_PORT", "K8SNET_PORT_443_TCP_ADDR"),
    ],
)
def test_variables_of_others(name: str) -> None:
    assert settings({"k8snet_kubeconfig": "k"}, {name: "x"}).kubeconfig == "k"


def test_settings_of_one_way() -> None:
    fields = {setting.field for setting in SETTINGS}
    assert fields > {*OF_PODS, *OF_MEASURING}
    access = next(setting for setting in SETTINGS if setting.name == "access")
    assert access.choices == WAYS


EVERYTHING = {
    "k8snet_profile": ["lab", "/a path/with blanks.yaml"],
    "k8snet_nodes": "node-1,node-2",
    "k8snet_checks": ["NET-MTU-*", "NET-KERNEL-001"],
    "k8snet_level": "probe",
    "k8snet_pairs": "all",
    "k8snet_load_pairs": "sample:2",
    "k8snet_shard": "1/3",
    "k8snet_allow_missing": "10%",
    "k8snet_strict": True,
    "k8snet_allow_inconclusive": True,
}


def recorded(found: Settings) -> dict[str, str]:
    return {name: item["value"] for name, item in found.to_json().items()}


def test_what_decides_verdicts_is_as_recorded() -> None:
    assert {setting.field for setting in SETTINGS} > set(DECIDING) == {name.removeprefix("k8snet_") for name in EVERYTHING}
    given = settings(EVERYTHING)
    found = settings({"k8snet_replay": "r"}, {"K8SNET_LEVEL": "read", "K8SNET_KEEP_RUNS": "3"}, {"k8snet_strict": "no"})
    found = found.with_recorded(recorded(given))
    for name in DECIDING:
        assert getattr(found, name) == getattr(given, name), name
        assert found.sources[name] == "recording"
    assert (found.keep_runs, found.sources["keep_runs"]) == (3, "environment K8SNET_KEEP_RUNS")
    again = settings({"k8snet_replay": "r"}).with_recorded(recorded(found))
    assert [getattr(again, name) for name in DECIDING] == [getattr(given, name) for name in DECIDING]


def test_the_command_line_decides_first() -> None:
    found = settings({"k8snet_replay": "r", "k8snet_level": "read", "k8snet_profile": ["mine"], "k8snet_strict": False})
    found = found.with_recorded(recorded(settings(EVERYTHING)))
    assert (found.level, found.profile, found.strict) == ("read", ("mine",), False)
    assert [found.sources[name] for name in ("level", "profile", "strict")] == ["command line"] * 3
    assert (found.pairs, found.sources["pairs"]) == (PairChoice("all"), "recording")


def test_what_was_not_recorded_is_the_default() -> None:
    for values in ({}, recorded(settings())):
        found = settings({"k8snet_replay": "r"}, {"K8SNET_LEVEL": "read"}).with_recorded(values)
        assert [getattr(found, name) for name in DECIDING] == [getattr(Settings(), name) for name in DECIDING]
        assert {found.sources[name] for name in DECIDING} == {"default"}


def test_a_recorded_value_that_is_not_known() -> None:
    with pytest.raises(RecordError) as caught:
        settings({"k8snet_replay": "r"}).with_recorded({"pairs": "some"})
    assert str(caught.value) == "the recorded setting pairs: got 'some', want auto, all, ring or sample:N with N from 1"
