"""The public fixtures. Their docstrings are what ``pytest --fixtures`` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.markers import RESERVED, case_of
from pytest_k8snet.outcome import JUDGEMENT, VerdictOutcome
from pytest_k8snet.state import RUN

if TYPE_CHECKING:
    from pytest_k8snet.cluster.model import Cluster
    from pytest_k8snet.expect.model import Expectation
    from pytest_k8snet.expect.resolve import Expectations
    from pytest_k8snet.handles import NodeHandle, PairHandle
    from pytest_k8snet.judge.model import Judgement
    from pytest_k8snet.record.document import Document
    from pytest_k8snet.run import Run, RunInfo

NOTHING = "(none)"  # the one parameter of a check when there is no node or pair to judge


def _run(config: pytest.Config) -> Run:
    run = config.stash.get(RUN, None)
    if run is None:
        raise ConfigurationError("no cluster to test: name one with --k8snet-kubeconfig=FILE")
    return run


def _doubted(request: pytest.FixtureRequest, judgement: Judgement) -> Judgement:
    """Return the judgement of a check of ours, with the policies that may be why nothing was answered."""
    case = case_of(request.node)
    if case is None or not case.id.startswith(RESERVED) or judgement.verdict in ("pass", "skip"):
        return judgement
    from pytest_k8snet.judge import blocked

    if not blocked.concerns(case.id, judgement.verdict) or (record := _run(request.config).blocking()) is None:
        return judgement
    return blocked.doubted(judgement, case.id, record)


@pytest.fixture(scope="session")
def k8snet_cluster(pytestconfig: pytest.Config) -> Cluster:
    """Give the cluster as its API describes it: version, nodes, CNI, kube-proxy, claims."""
    return _run(pytestconfig).cluster


@pytest.fixture(scope="session")
def k8snet_node(request: pytest.FixtureRequest) -> NodeHandle:
    """Give a node; the test becomes one case per node."""
    from pytest_k8snet.handles import NodeHandle

    run = _run(request.config)
    name: str = getattr(request, "param", NOTHING)
    if name == NOTHING:
        raise ConfigurationError(f"no node to judge this on: {run.plan.nobody}")
    return NodeHandle(run, name)


@pytest.fixture(scope="session")
def k8snet_pair(request: pytest.FixtureRequest) -> PairHandle:
    """Give a pair of nodes ``a:b``, a sending to b; the test becomes one case per chosen pair."""
    from pytest_k8snet.handles import PairHandle

    run = _run(request.config)
    name: str = getattr(request, "param", NOTHING)
    if name == NOTHING:
        run.start()
        raise ConfigurationError("no pair to judge this on: it takes two ready nodes")
    return PairHandle(run, name)


@pytest.fixture
def k8snet_expect(request: pytest.FixtureRequest) -> Expectation | Expectations:
    """Give what is expected of the node (of a pair: of its source); for a check of the cluster all expectations."""
    run = _run(request.config)
    if "k8snet_pair" in request.fixturenames:
        pair: PairHandle = request.getfixturevalue("k8snet_pair")
        return run.expectations.node(pair.source.name)
    if "k8snet_node" in request.fixturenames:
        node: NodeHandle = request.getfixturevalue("k8snet_node")
        return run.expectations.node(node.name)
    return run.expectations


@pytest.fixture
def k8snet_measure(request: pytest.FixtureRequest) -> Callable[..., Document]:
    """Give a function ``(kind, subject=None) -> Document``: a measurement by name, of the test's own subject if none is named."""
    run = _run(request.config)

    def measure(kind: str, subject: str | None = None) -> Document:
        if subject is None:
            for fixture in ("k8snet_pair", "k8snet_node"):
                if fixture in request.fixturenames:
                    subject = request.getfixturevalue(fixture).name
                    break
            else:
                raise ConfigurationError(f"k8snet_measure({kind!r}): name a subject; this test is of no node or pair")
        return run.document(kind, subject)

    return measure


@pytest.fixture
def k8snet_documents(request: pytest.FixtureRequest) -> Callable[[str], Mapping[str, Document]]:
    """Give a function ``(kind) -> {node: Document}``: one measurement of all planned nodes, failed ones included.

    A document is read when it is looked at: go through them one by one rather than hold them.
    """
    return _run(request.config).documents


@pytest.fixture(scope="session")
def k8snet_run(pytestconfig: pytest.Config) -> RunInfo:
    """Give id, folder, settings, nodes and pairs of this run."""
    return _run(pytestconfig).info


@pytest.fixture
def k8snet_verdict(request: pytest.FixtureRequest) -> Callable[[Judgement], None]:
    """Give a function that records a judgement as evidence and ends the test with its verdict."""

    def verdict(judgement: Judgement) -> None:
        __tracebackhide__ = True
        judgement = _doubted(request, judgement)
        request.node.stash[JUDGEMENT] = judgement
        if judgement.verdict != "pass":
            raise VerdictOutcome(judgement.verdict, judgement.message)

    return verdict
