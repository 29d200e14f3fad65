"""A thin client of the Kubernetes API: raw JSON in and out, one HTTP client per thread, errors that say what to do.

The models of the `kubernetes` package are not used: they are slow on long lists and refuse objects they do not know. Its configuration is,
because of the many ways a kubeconfig can hold credentials.
"""

from __future__ import annotations

import html
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
from kubernetes import config as kube_config
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from pytest_k8snet.cluster import kubeconfig
from pytest_k8snet.cluster.api_error import ApiError, ApiRefusedError, ApiUnreachableError
from pytest_k8snet.cluster.certificate import not_after
from pytest_k8snet.errors import ClusterError, ConfigurationError
from pytest_k8snet.json_text import parse_json

IN_CLUSTER = "in-cluster"

Objects = list[dict[str, Any]]  # raw objects; a name of its own because `Api.list` hides the builtin

_PAGE = 500
_CONNECT_S = 10.0
_READ_S = 60.0
_BETWEEN_S = 1.0
_DELETE_S = 20.0  # Ctrl-C waits for it

#: Parts of a path may be names that objects give, and whoever wrote those is not to lead a request elsewhere, as by ``secrets/name?``.
_PATH = re.compile(r"(?:/[A-Za-z0-9][A-Za-z0-9._:-]*)+")

#: Answers of an API server that starts, ends or has lost its etcd for a moment.
_PASSING = frozenset({429, 500, 502, 503, 504})
#: Redirects and exhausted patience come back as the answers they are. Of a server that asks to wait no more than this is granted.
_RETRIES = urllib3.Retry(
    total=2,
    connect=1,
    read=1,
    redirect=0,
    status=2,
    other=0,
    status_forcelist=(429,),
    raise_on_redirect=False,
    raise_on_status=False,
    retry_after_max=5,
)

# X509_V_ERR_... of OpenSSL, as in ssl.SSLCertVerificationError.verify_code
_NOT_YET_VALID, _EXPIRED, _NAME_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64


class Api:
    """The API server of one cluster. Every method may be called from several threads."""

    def __init__(self, configuration: Configuration, *, origin: str, learn: kubeconfig.Learn = kubeconfig.ignore) -> None:
        self.configuration = configuration
        self.origin = origin  # "kubeconfig /x (context y)", for messages
        self.clock: datetime | None = None  # the server's, as its last answer said
        self.patience_s = 0.0  # for how long requests are repeated that get no answer, or one that passes
        self._learn = learn
        self._local = threading.local()
        self._clients: list[ApiClient] = []
        self._lock = threading.Lock()

    @classmethod
    def from_kubeconfig(cls, path: str, context: str | None = None, *, learn: kubeconfig.Learn = kubeconfig.ignore) -> Api:
        """Read a kubeconfig (``in-cluster``: the pod's service account) without contacting the cluster. `learn` is told the credentials.

        Raises `ConfigurationError` when it cannot be used, `AuthenticationError` when its credential plugin fails.
        """
        configuration = Configuration()
        configuration.retries = _RETRIES
        if path == IN_CLUSTER:
            try:
                load: Any = kube_config.load_incluster_config
                load(client_configuration=configuration)
            except ConfigException as error:
                raise ConfigurationError(
                    f"kubeconfig in-cluster: {error} This only works in a pod that has a service account token; "
                    "elsewhere name a kubeconfig file."
                ) from error
            return cls(configuration, origin="the pod's service account", learn=learn)
        kubeconfig.load(path, context, configuration, learn)
        return cls(configuration, origin=f"kubeconfig {path}" + (f" (context {context})" if context else ""), learn=learn)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self.configuration.host)

    def get(self, path: str, **query: Any) -> Any:
        """Return the object at `path`."""
        return self.request("GET", path, query=query)

    def list(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of the list at `path`, page by page."""
        while True:
            page = self.request("GET", path, query={"limit": _PAGE, **query})
            yield from page.get("items") or ()
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query["continue"] = token

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create an object and return it as the server made it."""
        try:
            return self.request("POST", path, body=body)
        except ApiError as error:
            if error.status != 409 or not error.repeated:
                raise
            # A try before this one may have made it, and its answer was lost.
            there: dict[str, Any] = self.request("GET", f"{path}/{body['metadata']['name']}")
            if there["metadata"].get("labels") != body["metadata"].get("labels"):
                raise
            return there

    def merge(self, path: str, patch: Mapping[str, Any]) -> Any:
        """Change an object by a JSON merge patch (RFC 7386) and return it."""
        return self.request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    def delete(self, path: str, *, preconditions: Mapping[str, str] | None = None, **query: Any) -> None:
        """Delete the object or collection at `path`; one that is not there is fine, one that is another by now (`preconditions`) is not."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        try:
            self.request("DELETE", path, query=query, body=options if preconditions else None, patience_s=min(self.patience_s, _DELETE_S))
        except ApiError as error:
            if error.status != 404:
                raise

    def services(self) -> Objects:
        """Return all Services."""
        return [*self.list("/api/v1/services")]

    def endpoint_slices(self) -> Objects:
        """Return all EndpointSlices."""
        return [*self.list("/apis/discovery.k8s.io/v1/endpointslices")]

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        patience_s: float | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send one request and return the answer's JSON. With patience (`patience_s`) it is repeated while the API server is not itself.

        Raises `ApiError` for an answer that is an error and for a path that is none, `ApiUnreachableError` when there is no answer.
        """
        if _PATH.fullmatch(path) is None:
            raise _not_sent(method, path)
        until = time.monotonic() + (self.patience_s if patience_s is None else patience_s)
        repeated = False
        while True:
            try:
                return self._request(method, path, query=query, body=body, content_type=content_type)
            except (ApiError, ApiUnreachableError) as error:
                if isinstance(error, ApiError):
                    error.repeated = repeated
                passing = isinstance(error, ApiUnreachableError) or error.status in _PASSING
                if not passing or time.monotonic() + _BETWEEN_S > until:
                    raise
            repeated = True
            time.sleep(_BETWEEN_S)

    def relayed(self, path: str, **query: Any) -> tuple[int, str]:
        """Send one GET that the API server passes on to somebody else; return its status, and the text of the answer or of the error.

        It is sent once, whatever the patience: what is asked is whether the API server gets there. Raises `ApiError` for a path that is
        none, `ApiUnreachableError` when there is no answer.
        """
        if _PATH.fullmatch(path) is None:
            raise _not_sent("GET", path)
        status, data = self._send("GET", path, query=query, headers={"Accept": "*/*"}, body=None)
        text = data.decode("utf-8", "replace")
        if 200 <= status <= 299:
            return status, text
        try:
            return status, str(json.loads(data)["message"])
        except (ValueError, KeyError, TypeError):
            return status, f"an answer{page}" if (page := _page(data)) else text.strip()[:500] or "no message"

    def _request(
        self, method: str, path: str, *, query: Mapping[str, Any] | None, body: Mapping[str, Any] | None, content_type: str
    ) -> Any:
        headers = {"Accept": "application/json", **({} if body is None else {"Content-Type": content_type})}
        status, data = self._send(method, path, query=query, headers=headers, body=body)
        if not 200 <= status <= 299:
            raise self._refused(method, path, status, data)
        try:
            return parse_json(data) if data else None
        except ValueError as error:
            page = _page(data)
            what = f"did not answer with JSON but{page}" if page else "did not answer with JSON"
            raise ClusterError(f"{method} {path}: {self.server} {what}; {self._whose()}") from error

    def _send(
        self, method: str, path: str, *, query: Mapping[str, Any] | None, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        """Send one request and return the answer's status and content."""
        url = self.server.rstrip("/") + path
        if query:
            url += "?" + urlencode({key: value for key, value in query.items() if value is not None})
        try:
            client: Any = self._client().rest_client
            all_headers = {**headers, "User-Agent": "pytest-k8snet", **self.authorization()}
            response = client.request(method, url, headers=all_headers, body=body, _request_timeout=(_CONNECT_S, _READ_S))
            status, data = int(response.status), response.read() or b""
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise self._unreachable(error) from error
        self.clock = _date(response.headers.get("Date")) or self.clock
        return status, data

    def authorization(self) -> dict[str, str]:
        """Return the header that says who we are; empty with client certificates. A credential plugin runs again when it has expired."""
        settings: Any = self.configuration.auth_settings()
        bearer = settings.get("BearerToken")
        if not bearer or not bearer["value"]:
            return {}
        self._learn([str(bearer["value"]).rpartition(" ")[2]])
        return {bearer["key"]: bearer["value"]}

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            clients, self._clients = self._clients, []
            self._local = threading.local()
        client: Any
        for client in clients:
            client.close()

    def _client(self) -> ApiClient:
        client: ApiClient | None = getattr(self._local, "client", None)
        if client is None:
            client = ApiClient(self.configuration)
            with self._lock:
                self._local.client = client
                self._clients.append(client)
        return client

    def _unreachable(self, error: BaseException) -> ApiUnreachableError:
        text = str(error)
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLError):
                return ApiUnreachableError(f"{self.server}: TLS: {_short(cause)}. {self._tls_hint(cause)}")
            if isinstance(cause, socket.gaierror):
                name = urlsplit(self.server).hostname
                return ApiUnreachableError(
                    f"{self.server}: no connection: {cause.strerror}. Is the name {name} known here ({self.origin})?"
                )
            text = _short(cause)
        end = self._certificate_end()
        return ApiUnreachableError(
            f"{self.server}: no connection: {text}. Is the cluster up, and reachable from here ({self.origin})?"
            + (f" It may be the client certificate of {self.origin}{end}" if end else "")
        )

    def _tls_hint(self, error: ssl.SSLError) -> str:
        """Return what to do about a TLS connection that failed, here or at the other end."""
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code in (_NAME_MISMATCH, _ADDRESS_MISMATCH):
                return (
                    f"The server's certificate is one of other names: in {self.origin} use a server name that is in it, "
                    "or say which one is with tls-server-name"
                )
            if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
                return "It is the server's certificate; is the clock right here, and has the control plane's certificate been renewed?"
            return (
                f"The certificate authority in {self.origin} did not sign this server's certificate: is it another cluster's, "
                "or has the cluster got a new one since?"
            )
        # Of TLS 1.3 the alert may be lost: what was sent meanwhile resets the connection.
        if "ALERT" in str(error).upper() or isinstance(error, ssl.SSLEOFError):
            if self.configuration.cert_file is None:
                return f"Does the server want a client certificate? {self.origin} has none"
            why = self._certificate_end() or ": is it another cluster's?"
            return f"The server does not accept the client certificate of {self.origin}{why}"
        return f"Does the server speak TLS at this port ({self.origin})?"

    def _certificate_end(self) -> str | None:
        """Return that the client certificate has ended, when it has."""
        end = not_after(self.configuration.cert_file)
        return f", which has expired on {end:%Y-%m-%d}: get a new kubeconfig" if end is not None and end < datetime.now(UTC) else None

    def _whose(self) -> str:
        return f"is {self.server} a Kubernetes API server ({self.origin}), or a proxy before it that wants a login?"

    def _refused(self, method: str, path: str, status: int, data: bytes) -> ApiError:
        message, reason = data.decode("utf-8", "replace")[:500].strip() or "no message", None
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            message, reason = str(answer.get("message") or message), answer.get("reason")
        elif (page := _page(data)) or 300 <= status < 400:
            return ApiError(f"{method} {path}: HTTP {status}{page}; {self._whose()}", status=status)
        text = f"{method} {path}: HTTP {status}: {message}"
        if status == 401:
            why = self._certificate_end() or ": expired, or of another cluster?"
            return ApiRefusedError(
                f"{text}. {self.server} does not accept the credentials of {self.origin}{why}", status=status, reason=reason
            )
        if status == 429:
            return ApiError(f"{text}. The API server limits this client or is overloaded; try again later", status=status, reason=reason)
        if status >= 500 and "failed calling webhook" not in message:
            return ApiError(f"{text}. The API server itself is in trouble; is its etcd well?", status=status, reason=reason)
        if status == 403 and _is_rbac(message):
            return ApiRefusedError(f"{text}. {self.hint(method, path)}", status=status, reason=reason)
        return ApiError(text, status=status, reason=reason)

    def hint(self, method: str, path: str) -> str:
        """Return what a role must allow for `method` on `path`."""
        verb, resource = permission(method, path)
        return (
            f"The identity of {self.origin} needs the verb {verb} on {resource}; "
            "k8snet manifests rbac prints a role with everything that is needed."
        )


def _not_sent(method: str, path: str) -> ApiError:
    return ApiError(f"{method} {path!r}: not sent, for it has parts that are no names of objects", status=400)


def permission(method: str, path: str) -> tuple[str, str]:
    """Return the RBAC verb and resource that a request needs, as far as its path tells."""
    parts = urlsplit(path).path.strip("/").split("/")
    if parts[0] == "api":
        group, rest = "", parts[2:]
    elif parts[0] == "apis":
        group, rest = parts[1], parts[3:]
    else:
        return method.lower(), path
    if len(rest) > 2 and rest[0] == "namespaces":
        rest = rest[2:]
    named = len(rest) > 1
    resource = "/".join(rest[:1] + rest[2:3]) + (f".{group}" if group else "")
    verb = {
        "GET": "get" if named else "list",
        "POST": "create",
        "PUT": "update",
        "DELETE": "delete" if named else "deletecollection",
    }.get(method, method.lower())
    return verb, resource


def _date(text: str | None) -> datetime | None:
    """Read the time of an HTTP answer (RFC 9110, section 5.6.7)."""
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def _is_rbac(message: str) -> bool:
    """Whether a 403 is about permissions; admission (quota, Pod Security, webhooks) answers 403 as well."""
    return " cannot " in message or "anonymous" in message


def _page(data: bytes) -> str:
    """Return that an answer is a web page, and which; nothing when it is none."""
    text = data[:20_000].decode("utf-8", "replace")
    if not re.match(r"\s*<(!doctype|html|head|body)\b", text, re.IGNORECASE):
        return ""
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    words = " ".join(html.unescape(title[1]).split())[:100] if title else ""
    return f" with a web page ({words})" if words else " with a web page"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was made of; urllib3 keeps that in ``reason``, in its arguments or in the chain."""
    cause: object = error
    while isinstance(cause, BaseException):
        yield cause
        inner = (getattr(cause, "reason", None), cause.__cause__, *cause.args)
        cause = next((item for item in inner if isinstance(item, BaseException)), None)


def _short(error: BaseException) -> str:
    text = str(error)
    # urllib3 puts the connection object's repr in front.
    return text.rsplit(">: ", 1)[-1] if ">: " in text else text or type(error).__name__
