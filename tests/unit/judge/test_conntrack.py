from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.expect.model import ConntrackExpectation, KernelExpectation, SysctlWant, Wanted
from pytest_k8snet.judge import conntrack
from pytest_k8snet.record.activity import Activity, Grown
from pytest_k8snet.record.conntrack import ConntrackSettings
from tests.unit.judge.builder import document, facts, grown, outcome, told

BUILT_IN = ConntrackExpectation()
ORIGIN = "profile p.yaml:3"
COUNT = "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"


def table(count: int | None, limit: int | None = 1000, buckets: int | None = 1000) -> dict[str, int | None]:
    return {"count": count, "max": limit, "buckets": buckets}


@pytest.mark.parametrize(
    ("have", "expect", "expected", "noted"),
    [
        pytest.param(table(699), BUILT_IN, ("pass", ""), [], id="healthy"),
        pytest.param(
            table(700),
            BUILT_IN,
            ("pass", ""),
            ["node-1: 700 of 1000 entries of the connection table are in use (70 %), 70 % and more is worth a look (built-in)"],
            id="nearly-full",
        ),
        pytest.param(
            table(900),
            BUILT_IN,
            (
                "fail",
                (
                    "node-1: 900 of 1000 entries of the connection table are in use (90 %), want less than 90 % (built-in): "
                    f"when it is full, new connections get no answer ({COUNT})"
                ),
            ),
            [],
            id="full",
        ),
        pytest.param(
            table(505),
            ConntrackExpectation(full=Wanted(0.5, ORIGIN)),
            (
                "fail",
                (
                    f"node-1: 505 of 1000 entries of the connection table are in use (50.5 %), want less than 50 % ({ORIGIN}): "
                    f"when it is full, new connections get no answer ({COUNT})"
                ),
            ),
            [],
            id="full-by-a-profile",
        ),
        pytest.param(
            table(1, buckets=125),
            BUILT_IN,
            ("pass", ""),
            ["node-1: 8 connections per hash bucket when the table is full, 4 at most is usual"],
            id="long-chains",
        ),
        pytest.param(
            table(None), BUILT_IN, ("error", f"node-1: how many connections are tracked was not measured ({COUNT})"), [], id="not-measured"
        ),
        pytest.param(table(None, None, None), BUILT_IN, ("skip", "connection tracking is not in use on this node"), [], id="unused"),
    ],
)
def test_headroom(have: dict[str, int | None], expect: ConntrackExpectation, expected: tuple[str, str], noted: list[str]) -> None:
    judgement = conntrack.headroom(facts(conntrack=have), expect)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") + told(judgement, "advice") == noted


FULL = {"last_s": 1030.0, "table_full": 3, "table_full_s": [5.0, 1010.0, 1020.0], "error": None}
BEFORE = {"log": {**FULL, "last_s": 996.0}}
UNREAD = {"last_s": 0.0, "table_full": 0, "table_full_s": [], "error": "/dev/kmsg: Operation not permitted"}
STAT = "cat /proc/net/stat/nf_conntrack"
LOG = "dmesg | grep 'table full'"


@pytest.mark.parametrize(
    ("since", "expect", "expected", "noted"),
    [
        pytest.param(grown(), BUILT_IN, ("pass", ""), [], id="healthy"),
        pytest.param(
            grown(conntrack__early_drop=7),
            BUILT_IN,
            ("fail", f"node-1: the connection table was full: 7 connections were evicted (early_drop) within 60 s ({STAT})"),
            [],
            id="evicted",
        ),
        pytest.param(
            grown(log=FULL),
            BUILT_IN,
            (
                "fail",
                f"node-1: the kernel's log says 2 times that the connection table is full, last 40 s before the end of the run ({LOG})",
            ),
            ["node-1: the connection table was full before the run: 1 messages in the kernel's log, the last one 18 minutes ago"],
            id="table-full-in-the-log",
        ),
        pytest.param(
            grown(log={**FULL, "table_full": 900, "table_full_s": [5.0]}),
            BUILT_IN,
            ("pass", ""),
            ["node-1: the connection table was full before the run: 900 messages in the kernel's log, the last one 18 minutes ago"],
            id="table-full-long-ago",
        ),
        pytest.param(
            grown(3.0, log={**FULL, "table_full": 1, "table_full_s": [996.0]}, conntrack__drop=133, first=BEFORE),
            BUILT_IN,
            (
                "fail",
                (
                    "node-1: the connection table is full by the kernel's log, 7 s before the end of the run, and dropped 133 packets "
                    f"since ({LOG})"
                ),
            ),
            ["node-1: 133 packets were lost to the connection table (drop) within 3 s"],
            id="still-full-and-the-kernel-has-said-so-just-before",
        ),
        pytest.param(
            grown(3.0, log={**FULL, "table_full": 1, "table_full_s": [993.0]}, conntrack__drop=1, first=BEFORE),
            BUILT_IN,
            ("pass", ""),
            [
                "node-1: 1 packets were lost to the connection table (drop) within 3 s",
                "node-1: the connection table was full before the run: 1 messages in the kernel's log, the last one 10 s ago",
            ],
            id="full-before-and-a-race-since",
        ),
        pytest.param(
            grown(conntrack__insert_failed=4),
            BUILT_IN,
            ("pass", ""),
            ["node-1: 4 packets were lost to the connection table (insert_failed) within 60 s"],
            id="races-are-told",
        ),
        pytest.param(
            grown(conntrack__drop=4),
            ConntrackExpectation(losses=Wanted(3, ORIGIN)),
            ("fail", f"node-1: 4 packets were lost to the connection table (drop) within 60 s, want 3 at most ({ORIGIN}) ({STAT})"),
            [],
            id="more-than-a-profile-allows",
        ),
        pytest.param(grown(conntrack__drop=3), ConntrackExpectation(losses=Wanted(3, ORIGIN)), ("pass", ""), [], id="as-many-as-allowed"),
        pytest.param(
            grown(log=UNREAD),
            BUILT_IN,
            ("pass", ""),
            ["node-1: the kernel's log was not read (/dev/kmsg: Operation not permitted): whether the table was full before is not known"],
            id="log-not-read",
        ),
        pytest.param(
            grown(conntrack=None),
            BUILT_IN,
            ("pass", ""),
            ["node-1: this kernel tells no counters of the connection table (CONFIG_NF_CONNTRACK_PROCFS)"],
            id="no-counters",
        ),
        pytest.param(
            grown(conntrack=None, log=UNREAD),
            BUILT_IN,
            (
                "error",
                (
                    "node-1: this kernel tells no counters of the connection table (CONFIG_NF_CONNTRACK_PROCFS), "
                    "and its log was not read (/dev/kmsg: Operation not permitted)"
                ),
            ),
            ["node-1: the kernel's log was not read (/dev/kmsg: Operation not permitted): whether the table was full before is not known"],
            id="nothing-was-read",
        ),
        pytest.param(
            grown(-900),
            BUILT_IN,
            ("error", "node-1: the machine was started anew during the run: its counters began again"),
            [],
            id="started-anew",
        ),
        pytest.param(None, BUILT_IN, ("skip", "the recording is older than the reading of the kernel's counters"), [], id="older"),
    ],
)
def test_losses(since: Grown | None, expect: ConntrackExpectation, expected: tuple[str, str], noted: list[str]) -> None:
    judgement = conntrack.losses(facts(), since, expect)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == noted


def test_losses_where_nothing_is_tracked() -> None:
    judged = conntrack.losses(facts(conntrack=table(None, None, None)), grown(), BUILT_IN)
    assert outcome(judged) == ("skip", "connection tracking is not in use on this node")


def test_growth() -> None:
    """A counter that is smaller than before began again; a device that was not there before has no growth."""
    first = {"devices": {"eth0": {"rx_dropped": 10}, "eth1": {"rx_dropped": 1}}, "softnet": None}
    since = grown(first=first, devices={"eth0": {"rx_dropped": 4}, "eth2": {"rx_dropped": 9}})
    assert since.devices() == {"eth0": {"rx_dropped": 4}}
    assert since.of("softnet") is None
    assert since.of("processor") == {**dict.fromkeys(since.first.processor, 0), "idle": 22920}


def test_activity_that_was_not_read() -> None:
    from pytest_k8snet.errors import RecordError

    with pytest.raises(RecordError, match="node-1: no second reading of the counters: the exec stream broke"):
        Activity.from_document(document("activity", "node-1", None, "node-1: the exec stream broke"))
    with pytest.raises(RecordError, match="node-1: the activity document is damaged: KeyError"):
        Activity.from_document(document("activity", "node-1", {}))


def configz(per_core: int = 32768, least: int = 131072) -> dict[str, Any]:
    return {"kubeproxy.config.k8s.io": {"conntrack": {"maxPerCore": per_core, "min": least}}}


WANTS = KernelExpectation(host_sysctls=(SysctlWant("net.netfilter.nf_conntrack_max", ">=", "200000", ORIGIN),))
BY = "conntrack.maxPerCore 32768 x 4 processors, min 131072"
MAX = "sysctl net.netfilter.nf_conntrack_max"


@pytest.mark.parametrize(
    ("changes", "expect", "version", "expected", "remarks"),
    [
        pytest.param({}, KernelExpectation(), "v1.36.2", ("pass", ""), [], id="healthy"),
        pytest.param(
            {"conntrack__max": 65536},
            KernelExpectation(),
            "v1.37.0",
            (
                "fail",
                (
                    f"node-1: net.netfilter.nf_conntrack_max 65536, kube-proxy made it 131072 when it started ({BY}): "
                    f"something has lowered it since ({MAX})"
                ),
            ),
            [],
            id="lowered-since",
        ),
        pytest.param(
            {"conntrack__max": 262144},
            WANTS,
            "v1.36.2",
            (
                "fail",
                (
                    f"node-1: kube-proxy makes net.netfilter.nf_conntrack_max 131072 at its next start ({BY}), "
                    f"want >= 200000 ({ORIGIN}) ({MAX})"
                ),
            ),
            [f"node-1: net.netfilter.nf_conntrack_max is 262144 until kube-proxy starts again and makes it 131072 ({BY})"],
            id="raised-by-hand",
        ),
        pytest.param({"conntrack__max": 262144}, WANTS, "v1.37.2", ("pass", ""), [], id="raised-by-hand-and-kube-proxy-only-raises"),
        pytest.param({"conntrack__max": 131072}, replace(WANTS, advice=True), "v1.36.2", ("pass", ""), [], id="nobody-asked-for-more"),
        pytest.param(
            {"kube_proxy__configz": configz(0, 0)},
            WANTS,
            "v1.36.2",
            (
                "skip",
                (
                    "kube-proxy has no say in net.netfilter.nf_conntrack_max: its conntrack.maxPerCore is 0; "
                    "131072 comes from the kernel, or from somebody who set it while it ran"
                ),
            ),
            [],
            id="left-alone",
        ),
        pytest.param(
            {
                "kube_proxy__configz": configz(0, 0),
                "persisted": [{"key": "net.netfilter.nf_conntrack_max", "value": "131072", "file": "/etc/sysctl.d/1.conf", "line": 2}],
            },
            WANTS,
            "v1.36.2",
            (
                "skip",
                (
                    "kube-proxy has no say in net.netfilter.nf_conntrack_max: its conntrack.maxPerCore is 0; "
                    "131072 comes from /etc/sysctl.d/1.conf:2"
                ),
            ),
            [],
            id="a-file-s",
        ),
        pytest.param(
            {"kube_proxy__configz": None},
            WANTS,
            "v1.36.2",
            (
                "skip",
                (
                    "kube-proxy has no say in net.netfilter.nf_conntrack_max: its /configz does not tell; "
                    "131072 comes from the kernel, or from somebody who set it while it ran"
                ),
            ),
            [],
            id="does-not-tell",
        ),
        pytest.param(
            {"kube_proxy__configz": None, "kube_proxy__mode": None, "kube_proxy__listening": False, "kube_proxy__processes": []},
            WANTS,
            "v1.36.2",
            (
                "skip",
                (
                    "kube-proxy has no say in net.netfilter.nf_conntrack_max: it does not run on this node; "
                    "131072 comes from the kernel, or from somebody who set it while it ran"
                ),
            ),
            [],
            id="no-kube-proxy",
        ),
        pytest.param(
            {"conntrack": table(None, None, None)},
            WANTS,
            "v1.36.2",
            ("skip", "connection tracking is not in use on this node"),
            [],
            id="unused",
        ),
    ],
)
def test_size_owner(
    changes: dict[str, Any], expect: KernelExpectation, version: str, expected: tuple[str, str], remarks: list[str]
) -> None:
    judgement = conntrack.size_owner(facts(**{"kube_proxy__configz": configz(), **changes}), expect, version)
    assert outcome(judgement) == expected
    assert told(judgement, "remark") == remarks


def test_size_owner_in_an_older_recording() -> None:
    older = replace(facts(kube_proxy__configz=configz()), activity=None)
    judgement = conntrack.size_owner(older, WANTS, "v1.36.2")
    assert outcome(judgement) == ("skip", "the recording is older than the reading of the kernel's counters")
    assert judgement.unsupported


@pytest.mark.parametrize(
    ("settings", "processors", "release", "size"),
    [
        (ConntrackSettings(32768, 131072), 2, (1, 36), 131072),
        (ConntrackSettings(32768, 131072), 16, (1, 36), 524288),
        (ConntrackSettings(32768, 131072), 64, (1, 36), 1048576),
        (ConntrackSettings(32768, 4194304), 64, (1, 36), 1048576),
        (ConntrackSettings(32768, 131072), 64, (1, 35), 2097152),
        (ConntrackSettings(32768, 4194304), 2, (1, 37), 4194304),
        (ConntrackSettings(0, 131072), 64, (1, 36), None),
    ],
)
def test_arithmetic_of_kube_proxy(settings: ConntrackSettings, processors: int, release: tuple[int, int], size: int | None) -> None:
    assert settings.wanted(processors, release) == size


@pytest.mark.parametrize(
    ("told_by_kube_proxy", "settings"),
    [
        (configz(), ConntrackSettings(32768, 131072)),
        (
            {"kubeproxy.config.k8s.io": {"Linux": {"Conntrack": {"MaxPerCore": 1, "Min": 2}}}},
            ConntrackSettings(1, 2),
        ),
        ({"kubeproxy.config.k8s.io": {"Conntrack": {"MaxPerCore": 1, "Min": None}}}, ConntrackSettings(1, 0)),
        ({"kubeproxy.config.k8s.io": {"conntrack": {"maxPerCore": None}}}, None),
        ({}, None),
        (None, None),
    ],
)
def test_settings_of_kube_proxy(told_by_kube_proxy: dict[str, Any] | None, settings: ConntrackSettings | None) -> None:
    assert ConntrackSettings.from_configz(told_by_kube_proxy) == settings
