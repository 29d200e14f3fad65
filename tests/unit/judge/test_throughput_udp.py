from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet.errors import RecordError
from pytest_k8snet.expect.model import ThroughputExpectation, Wanted
from pytest_k8snet.judge import throughput
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.document import Document
from pytest_k8snet.record.udp import Datagrams, UdpRecord
from tests.unit.judge.builder import outcome

PAIR = "node-1:node-2"
ORIGIN = "profile p.yaml:3"
RULE = "want at most 0.001 of it (built-in) more than the hosts"


def take(path: Any, lost: int, *, bps: float = 1e7, late: int = 0, jitter_ms: float | None = 0.1, error: str | None = None) -> Datagrams:
    return Datagrams(path, error, bps, 2600, lost, late, jitter_ms)


def judged(*takes: Datagrams, jitter_ms: float | None = None, loss: float | None = None, **changes: Any) -> Judgement:
    record = UdpRecord(**{"pair": PAIR, "rate_bps": 10**7, "seconds": 3, "pod_absent": None, "takes": takes, **changes})
    wants: dict[str, Any] = {} if loss is None else {"udp_loss": Wanted(loss, ORIGIN)}
    jitter = None if jitter_ms is None else Wanted(jitter_ms, ORIGIN)
    return throughput.udp(record, ThroughputExpectation(udp_jitter_ms=jitter, **wants))


def hosts(first: int = 0, second: int = 0) -> tuple[Datagrams, Datagrams]:
    return take("host", first), take("host", second)


def test_healthy() -> None:
    judgement = judged(*hosts(), take("pod", 0))
    assert outcome(judgement) == ("pass", "")
    figures = {"packets": 2600, "lost": 0, "overflowed": 0, "unseen": 0, "jitter_ms": 0.1}
    assert judgement.evidence["takes"][2] == {"path": "pod", "error": None, **figures}
    assert outcome(judged(*hosts(), take("pod", 4))) == ("pass", ""), "2.6 by the rule, and two by chance"
    assert outcome(judged(*hosts(), take("pod", 500), take("pod", 1))) == ("pass", ""), "the best take counts"


def test_pods_lose_more() -> None:
    told = f"{PAIR}: of UDP at 10 Mbit/s pods lost 52 of 2600, hosts 0 of 2600 and 1 of 2600"
    assert outcome(judged(*hosts(0, 1), take("pod", 52))) == ("fail", f"{told}, {RULE} (iperf3 -u)")
    assert outcome(judged(*hosts(0, 1), take("pod", 52), loss=0.02)) == ("pass", "")
    assert outcome(judged(*hosts(), take("pod", 2600, jitter_ms=None), jitter_ms=1.0))[0] == "fail", "nothing arrives at all"


def test_a_path_that_ends_in_the_middle_of_a_take() -> None:
    """What is lost behind the last datagram that came nobody counts."""
    cut = replace(take("pod", 0), packets=1300, unseen=1300)
    words = (
        f"{PAIR}: of UDP at 10 Mbit/s pods lost 0 of 1300, hosts 0 of 2600 and 0 of 2600: the last 1300 datagrams that were sent never "
        "came, and the receiver, which counts by their numbers, does not know of them (iperf3 -u)"
    )
    assert outcome(judged(*hosts(), cut)) == ("inconclusive", words)
    assert outcome(judged(*hosts(), cut, take("pod", 52)))[0] == "fail", "the best take is one that is whole"
    assert outcome(judged(*hosts(), replace(take("pod", 0), unseen=130))) == ("pass", ""), "on their way when it ended"


def test_what_is_read_too_late_is_not_lost_on_the_way() -> None:
    assert outcome(judged(take("host", 380, late=380), take("host", 76, late=75), take("pod", 443, late=440))) == ("pass", "")
    told = f"{PAIR}: of UDP at 10 Mbit/s pods lost 52 of 2600 (and the receiver read 30 too late), hosts 0 of 2600 and 0 of 2600"
    assert outcome(judged(*hosts(), take("pod", 82, late=30))) == ("fail", f"{told}, {RULE} (iperf3 -u)")


def test_the_hosts_differ() -> None:
    told = f"{PAIR}: of UDP at 10 Mbit/s pods lost 40 of 2600, hosts 0 of 2600 and 60 of 2600"
    words = f"{told}: the host takes differ too much to tell, {RULE}"
    assert outcome(judged(*hosts(0, 60), take("pod", 40))) == ("inconclusive", words)


@pytest.mark.parametrize("lost", [60, 900])
def test_the_hosts_lose_it_themselves(lost: int) -> None:
    """The rate is too high for the machines: what is lost is a matter of luck then, of pods as well."""
    told = f"{PAIR}: of UDP at 10 Mbit/s pods lost {lost} of 2600, hosts 60 of 2600 and 61 of 2600"
    words = f"{told}: the hosts lose too much of it themselves for the pods to be judged"
    assert outcome(judged(*hosts(60, 61), take("pod", lost))) == ("inconclusive", words)


@pytest.mark.parametrize("path", ["host", "pod"])
def test_the_sender_is_too_slow(path: str) -> None:
    slow = [take(place, 0, bps=8e6 if place == path else 1e7) for place in ("host", "pod", "host")]
    words = f"{PAIR}: the {path} path: iperf3 sent 8 Mbit/s of the 10 Mbit/s asked for, and what more would be lost is not seen"
    assert outcome(judged(*slow)) == ("inconclusive", words)
    assert outcome(judged(take("host", 0, bps=8e6), take("pod", 0), take("host", 0))) == ("pass", ""), "one of two is enough"


def test_jitter() -> None:
    words = f"{PAIR}: UDP at 10 Mbit/s between pods arrives with a jitter of 6.5 ms, want 5 ms at most ({ORIGIN}) (iperf3 -u)"
    assert outcome(judged(*hosts(), take("pod", 0, jitter_ms=6.5), jitter_ms=5.0)) == ("fail", words)
    assert outcome(judged(*hosts(), take("pod", 0, jitter_ms=6.5))) == ("pass", ""), "nobody wants less"
    assert outcome(judged(*hosts(), take("pod", 0, jitter_ms=6.5), take("pod", 0, jitter_ms=5.0), jitter_ms=5.0)) == ("pass", "")


def test_takes_that_went_wrong() -> None:
    words = f"{PAIR}: take 1 of 1 of the pod path: iperf3: unable to connect (iperf3 -u)"
    assert outcome(judged(*hosts(), take("pod", 0, error="iperf3: unable to connect"))) == ("error", words)
    assert outcome(judged(*hosts())) == ("error", f"{PAIR}: no take of the pod path was recorded")


def test_what_is_not_asked_for_and_what_cannot_be() -> None:
    assert outcome(judged(rate_bps=None)) == ("skip", "UDP at a given rate is sent only when --k8snet-udp asks for it")
    absent = judged(*hosts(), pod_absent="access ssh makes no probe pods")
    assert (outcome(absent), absent.unsupported) == (("skip", "access ssh makes no probe pods"), True)


def test_documents_that_cannot_be_read() -> None:
    def document(values: dict[str, Any] | None) -> Document:
        reason = None if values else "gone"
        return Document(kind="udp", subject=PAIR, started="x", duration_s=0.0, method="x", values=values, reason=reason)

    with pytest.raises(RecordError, match="node-1:node-2: no UDP at a given rate: gone"):
        UdpRecord.from_document(document(None))
    with pytest.raises(RecordError, match="node-1:node-2: the udp document is damaged"):
        UdpRecord.from_document(document({"x": 1}))
