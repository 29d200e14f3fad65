"""What the identity of a kubeconfig may do, as the API server's authorizers say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pytest_k8snet.cluster.api_error import ApiError
from pytest_k8snet.errors import ClusterError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.permissions import Question

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

_THREADS = 8


def denied(api: Api, questions: Sequence[Question]) -> list[Question]:
    """Return which of `questions` are answered with no. What gets no answer is not among them: trying will tell.

    Raises an `ApiUnreachableError` when there is no API server to ask.
    """
    first, *others = questions
    try:
        refused = [first] if _is_denied(api, first) else []
    except ApiError:
        return []  # reviews are refused, or not served
    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="k8snet-reviews") as pool:
        answers = [*pool.map(lambda question: _is_denied_as_far_as_known(api, question), others)]
    return refused + [question for question, no in zip(others, answers, strict=True) if no]


def _is_denied_as_far_as_known(api: Api, question: Question) -> bool:
    try:
        return _is_denied(api, question)
    except ClusterError:
        return False


def _is_denied(api: Api, question: Question) -> bool:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": question.attributes()},
    }
    answer = api.post(REVIEWS, body)
    return (answer.get("status") or {}).get("allowed") is False
