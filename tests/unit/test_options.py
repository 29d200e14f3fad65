from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.options import SETTINGS, Missing, PairChoice, Settings, resolve


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
        ({}, {}, {"k8snet_pairs": "sample"}, "k8snet_pairs in pytest.ini: got 'sample', want all, ring or sample:N with N of at least 1"),
        ({"k8snet_context": " "}, {}, {}, "--k8snet-context: got ' ', want a value that is not empty"),
        ({"k8snet_shard": "3/3"}, {}, {}, "--k8snet-shard: got '3/3', want I/N with I from 0 to N-1, such as 0/3"),
        ({"k8snet_shard": "1"}, {}, {}, "--k8snet-shard: got '1', want I/N with I from 0 to N-1, such as 0/3"),
        ({"k8snet_allow_missing": "ten"}, {}, {}, "--k8snet-allow-missing: got 'ten', want a number of nodes or a share such as 10%"),
        ({}, {"K8SNET_STRICT": "maybe"}, {}, "K8SNET_STRICT: got 'maybe', want yes or no"),
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
