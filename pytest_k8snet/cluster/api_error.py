"""The errors of the API client, apart from it so that catching them does not import it."""

from __future__ import annotations

from pytest_k8snet.errors import AuthenticationError, ClusterError, ConnectError


class ApiError(ClusterError):
    """The API server answered with an error; `status` is the HTTP status, `reason` the API's own word for it.

    `repeated` says that tries before this one got no answer: they may have done what was asked.
    """

    def __init__(self, message: str, *, status: int, reason: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.repeated = False


class ApiRefusedError(ApiError, AuthenticationError):
    """The API server does not know us (401) or does not allow what was asked (403)."""


class ApiUnreachableError(ClusterError, ConnectError):
    """No answer from the API server."""
