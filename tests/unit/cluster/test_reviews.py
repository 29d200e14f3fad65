from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.permissions import Question, questions, rights
from pytest_k8snet.cluster.reviews import REVIEWS, denied
from pytest_k8snet.errors import ClusterError
from tests.unit.fakeapi import Answer, FakeApiServer, status

ASKED = questions(rights("load", "pod", None, run_namespace="k8snet-r1"))


def answering(server: FakeApiServer, no: dict[str, str], **more: Any) -> None:
    """Answer reviews: no to those whose attributes include `no`."""

    def answer(path: str, query: dict[str, str], body: Any) -> Answer:
        attributes = body["spec"]["resourceAttributes"]
        return 201, {**body, "status": {"allowed": not no.items() <= attributes.items(), **more}}

    server.routes["POST", REVIEWS] = answer


def names(found: list[Question]) -> list[tuple[str, str]]:
    return [(question.verb, question.right.resource) for question in found]


def test_everything_is_allowed(server: FakeApiServer, api: Api) -> None:
    answering(server, {"verb": "fly"})
    assert denied(api, ASKED) == []
    bodies = [body for _, _, _, body in server.requests]
    assert {body["kind"] for body in bodies} == {"SelfSubjectAccessReview"}
    asked = [body["spec"]["resourceAttributes"] for body in bodies]
    assert len(asked) == len(ASKED)
    assert all(question.attributes() in asked for question in ASKED)


def test_what_is_denied_keeps_its_order(server: FakeApiServer, api: Api) -> None:
    answering(server, {"resource": "pods", "namespace": "k8snet-r1"}, evaluationError="clusterrole not found")
    assert names(denied(api, ASKED)) == [("create", "pods"), ("list", "pods"), ("create", "pods/exec"), ("get", "pods/exec")]


def test_the_first_one_counts_too(server: FakeApiServer, api: Api) -> None:
    answering(server, {"resource": "nodes"})
    assert names(denied(api, ASKED)) == [("list", "nodes")]


@pytest.mark.parametrize(
    "answer",
    [status(403, "Forbidden", "may not create selfsubjectaccessreviews"), status(404, "NotFound", "no such API"), (201, {})],
    ids=["refused", "not-served", "without-status"],
)
def test_reviews_that_say_nothing(server: FakeApiServer, api: Api, answer: Answer) -> None:
    server.routes["POST", REVIEWS] = answer
    assert denied(api, ASKED) == []
    assert len(server.requests) == (len(ASKED) if answer[0] == 201 else 1), "who refuses one refuses all"


def test_one_that_fails_is_left_to_trying(server: FakeApiServer, api: Api) -> None:
    def answer(path: str, query: dict[str, str], body: Any) -> Answer:
        resource = body["spec"]["resourceAttributes"]["resource"]
        return status(500, "InternalError", "webhook") if resource == "services" else (201, {"status": {"allowed": resource != "pods"}})

    server.routes["POST", REVIEWS] = answer
    assert {question.right.resource for question in denied(api, ASKED)} == {"pods", "pods/exec"}


def test_no_server(server: FakeApiServer, api: Api) -> None:
    server.close()
    with pytest.raises(ClusterError, match="no connection"):
        denied(api, ASKED)
