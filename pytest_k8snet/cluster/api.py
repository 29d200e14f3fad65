"""A thin client of the Kubernetes API: raw JSON in and out, one HTTP client per thread, errors that say what to do.

The models of the `kubernetes` package are not used: they are slow on long lists and refuse objects they do not know. Its configuration is,
because of the many ways a kubeconfig can hold credentials.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
import yaml
from kubernetes import config as kube_config
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.exec_provider import ExecProvider
from kubernetes.config.kube_config import ConfigNode

from pytest_k8snet.cluster.api_error import ApiError, ApiRefusedError, ApiUnreachableError
from pytest_k8snet.errors import AuthenticationError, ClusterError, ConfigurationError

IN_CLUSTER = "in-cluster"

Objects = list[dict[str, Any]]  # raw objects; a name of its own because `Api.list` hides the builtin

_PAGE = 500
_CONNECT_S = 10.0
_READ_S = 60.0
_BETWEEN_S = 1.0
_DELETE_S = 20.0  # Ctrl-C waits for it

#: Answers of an API server that starts, ends or has lost its etcd for a moment.
_PASSING = frozenset({429, 500, 502, 503, 504})


class Api:
    """The API server of one cluster. Every method may be called from several threads."""

    def __init__(self, configuration: Configuration, *, origin: str) -> None:
        self.configuration = configuration
        self.origin = origin  # "kubeconfig /x (context y)", for messages
        self.patience_s = 0.0  # for how long requests are repeated that get no answer, or one that passes
        self._local = threading.local()
        self._clients: list[ApiClient] = []
        self._lock = threading.Lock()

    @classmethod
    def from_kubeconfig(cls, path: str, context: str | None = None) -> Api:
        """Read a kubeconfig (``in-cluster``: the pod's service account) without contacting the cluster.

        Raises `ConfigurationError` when it cannot be used, `AuthenticationError` when its credential plugin fails.
        """
        configuration = Configuration()
        configuration.retries = urllib3.Retry(total=2, connect=1, read=1, redirect=0, status=2, status_forcelist=(429,), other=0)
        if path == IN_CLUSTER:
            try:
                load: Any = kube_config.load_incluster_config
                load(client_configuration=configuration)
            except ConfigException as error:
                raise ConfigurationError(
                    f"kubeconfig in-cluster: {error} This only works in a pod that has a service account token; "
                    "elsewhere name a kubeconfig file."
                ) from error
            return cls(configuration, origin="the pod's service account")
        user = _user_of(path, context)
        try:
            load = kube_config.load_kube_config
            load(config_file=str(Path(path).expanduser()), context=context, client_configuration=configuration, persist_config=False)
        except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"kubeconfig {path}: {error}") from error
        if "exec" in user and not configuration.api_key and not configuration.cert_file:
            raise _plugin_error(path, user["exec"])
        return cls(configuration, origin=f"kubeconfig {path}" + (f" (context {context})" if context else ""))

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

    def delete(self, path: str, **query: Any) -> None:
        """Delete the object or collection at `path`; one that is not there is fine."""
        try:
            self.request("DELETE", path, query=query, patience_s=min(self.patience_s, _DELETE_S))
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
    ) -> Any:
        """Send one request and return the answer's JSON. With patience (`patience_s`) it is repeated while the API server is not itself.

        Raises `ApiError` for an answer that is an error, `ApiUnreachableError` when there is none.
        """
        until = time.monotonic() + (self.patience_s if patience_s is None else patience_s)
        repeated = False
        while True:
            try:
                return self._request(method, path, query=query, body=body)
            except (ApiError, ApiUnreachableError) as error:
                if isinstance(error, ApiError):
                    error.repeated = repeated
                passing = isinstance(error, ApiUnreachableError) or error.status in _PASSING
                if not passing or time.monotonic() + _BETWEEN_S > until:
                    raise
            repeated = True
            time.sleep(_BETWEEN_S)

    def _request(self, method: str, path: str, *, query: Mapping[str, Any] | None, body: Mapping[str, Any] | None) -> Any:
        url = self.server.rstrip("/") + path
        if query:
            url += "?" + urlencode({key: value for key, value in query.items() if value is not None})
        headers = {"Accept": "application/json", "User-Agent": "pytest-k8snet", **self.authorization()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            client: Any = self._client().rest_client
            response = client.request(method, url, headers=headers, body=body, _request_timeout=(_CONNECT_S, _READ_S))
            data: bytes = response.read() or b""
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise self._unreachable(error) from error
        if not 200 <= response.status <= 299:
            raise self._refused(method, path, response.status, data)
        try:
            return json.loads(data) if data else None
        except ValueError as error:
            raise ClusterError(
                f"{method} {path}: {self.server} did not answer with JSON; is this a Kubernetes API server ({self.origin})?"
            ) from error

    def authorization(self) -> dict[str, str]:
        """Return the header that says who we are; empty with client certificates. A credential plugin runs again when it has expired."""
        settings: Any = self.configuration.auth_settings()
        bearer = settings.get("BearerToken")
        return {bearer["key"]: bearer["value"]} if bearer and bearer["value"] else {}

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
        cause: BaseException | None = error
        text = str(error)
        while cause is not None:
            if isinstance(cause, ssl.SSLError | urllib3.exceptions.SSLError):
                return ApiUnreachableError(
                    f"{self.server}: TLS: {_short(cause)}. Is the certificate authority in {self.origin} the one of this cluster, "
                    "and is the server's name in its certificate?"
                )
            text = _short(cause)
            cause = getattr(cause, "reason", None) if isinstance(getattr(cause, "reason", None), BaseException) else cause.__cause__
        return ApiUnreachableError(f"{self.server}: no connection: {text}. Is the cluster up, and reachable from here ({self.origin})?")

    def _refused(self, method: str, path: str, status: int, data: bytes) -> ApiError:
        message, reason = data.decode("utf-8", "replace")[:500].strip(), None
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            message, reason = str(answer.get("message") or message), answer.get("reason")
        text = f"{method} {path}: HTTP {status}: {message}"
        if status == 401:
            return ApiRefusedError(
                f"{text}. {self.server} does not accept the credentials of {self.origin}: expired, or of another cluster?",
                status=status,
                reason=reason,
            )
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
        "DELETE": "delete" if named else "deletecollection",
    }.get(method, method.lower())
    return verb, resource


def _is_rbac(message: str) -> bool:
    """Whether a 403 is about permissions; admission (quota, Pod Security, webhooks) answers 403 as well."""
    return " cannot " in message or "anonymous" in message


def _short(error: BaseException) -> str:
    text = str(error)
    # urllib3 puts the connection object's repr in front.
    return text.rsplit(">: ", 1)[-1] if ">: " in text else text or type(error).__name__


def _user_of(path: str, context: str | None) -> dict[str, Any]:
    """Check what the library says badly about a kubeconfig, and return its user section."""
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(f"kubeconfig {path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"kubeconfig {path}: cannot be read: {error}") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        # Not the parser's own message: it quotes the line, which may hold a token.
        raise ConfigurationError(f"kubeconfig {path}{f':{mark.line + 1}' if mark else ''}: not YAML") from None
    if not isinstance(data, dict) or not isinstance(data.get("contexts"), Sequence):
        raise ConfigurationError(f"kubeconfig {path}: not a kubeconfig (no contexts)")
    contexts = {item.get("name"): item.get("context") or {} for item in data["contexts"] if isinstance(item, dict)}
    name = context or data.get("current-context")
    known = ", ".join(sorted(str(item) for item in contexts)) or "none"
    if not name:
        raise ConfigurationError(f"kubeconfig {path}: no current-context; name one with --k8snet-context ({known})")
    if name not in contexts:
        raise ConfigurationError(f"kubeconfig {path}: no context {name!r}; it has: {known}")
    cluster = contexts[name].get("cluster")
    if cluster not in {item.get("name") for item in data.get("clusters") or () if isinstance(item, dict)}:
        raise ConfigurationError(f"kubeconfig {path}: context {name!r} is of cluster {cluster!r}, which the file does not have")
    for item in data.get("users") or ():
        if isinstance(item, dict) and item.get("name") == contexts[name].get("user"):
            return item.get("user") or {}
    return {}


def _plugin_error(path: str, plugin: Mapping[str, Any]) -> AuthenticationError:
    """Run a credential plugin that gave nothing once more, for its message: the library only logs it."""
    command = plugin.get("command")
    try:
        provider: Any = ExecProvider
        node: Any = ConfigNode
        provider(node("exec", dict(plugin)), str(Path(path).expanduser().parent)).run()
    except (ConfigException, OSError) as error:
        return AuthenticationError(f"kubeconfig {path}: the credential plugin {command!r} failed: {error}. Run it by hand to see more.")
    return AuthenticationError(f"kubeconfig {path}: the credential plugin {command!r} gave neither a token nor a certificate")
