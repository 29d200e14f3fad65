"""Kubeconfigs: read once, checked before anything is contacted, with one message for whatever is wrong with them.

A list of files, as KUBECONFIG may have, is one kubeconfig: of what two of them have by the same name the first counts, as for kubectl.
The `kubernetes` package makes the client's configuration of what is left: one context, its cluster and its user.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

import yaml
from kubernetes import config as kube_config
from kubernetes.client.configuration import Configuration
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.kube_config import ConfigNode

from pytest_k8snet.cluster.credentials import Credential, Plugin
from pytest_k8snet.errors import ConfigurationError

#: Takes values that must not be told to anybody.
Learn = Callable[[Iterable[str]], None]

_LARGEST = 16 << 20  # bytes
_FILES = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key", "tokenFile")}
_SECRETS = ("token", "password", "client-key-data")


def ignore(_values: Iterable[str]) -> None:
    """Be told secrets and forget them: for who tells nothing to anybody."""


def load(path: str, context: str | None, configuration: Configuration, learn: Learn) -> None:
    """Set what a kubeconfig says of server and credentials, without contacting the cluster. `learn` is told every secret of it.

    Raises `ConfigurationError` when it cannot be used, `AuthenticationError` when its credential plugin fails.
    """
    entry = _entry(path, context)
    learn(_secrets(entry))
    _check(entry)
    user = dict(entry.user)
    spec = user.pop("exec", None)
    credential = None
    # A token or an auth-provider comes first, as for kubectl.
    if isinstance(spec, Mapping) and not user.get("token") and not user.get("tokenFile"):
        plugin = Plugin(entry.path, spec, entry.cluster)
        credential = plugin.run()
        learn(_of(credential))
        user.update(_as_user(credential))
    node: Any = ConfigNode
    load_dict: Any = kube_config.load_kube_config_from_dict
    content = {
        "current-context": "chosen",
        "contexts": [{"name": "chosen", "context": {"cluster": "chosen", "user": "chosen"}}],
        "clusters": [{"name": "chosen", "cluster": dict(entry.cluster)}],
        "users": [{"name": "chosen", "user": user}],
    }
    try:
        load_dict(node("kubeconfig", content, str(entry.path)), client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"kubeconfig {path}: {error}") from error
    _check_tls(path, configuration)
    _set_proxy(configuration)
    if credential is not None and credential.token is not None:
        hooks: Any = configuration
        hooks.refresh_api_key_hook = _Renewing(plugin, credential, learn).renew


class _Renewing:
    """Runs a credential plugin again when what it gave is about to expire. It may be asked from several threads."""

    def __init__(self, plugin: Plugin, credential: Credential, learn: Learn) -> None:
        self._plugin = plugin
        self._credential = credential
        self._learn = learn
        self._lock = threading.Lock()

    def renew(self, configuration: Configuration) -> None:
        with self._lock:
            if self._credential.expired:
                self._credential = self._plugin.run()
                self._learn(_of(self._credential))
                configuration.api_key["BearerToken"] = f"Bearer {self._credential.token}"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A context of a kubeconfig: its cluster and user, by name and content."""

    given: str  # the path as the user wrote it
    path: Path  # the file that has the user
    cluster_name: str
    cluster: Mapping[str, Any]
    user_name: str
    user: Mapping[str, Any]

    def fail(self, what: str) -> NoReturn:
        raise ConfigurationError(f"kubeconfig {self.given}: {what}")

    def sections(self) -> Iterator[tuple[str, Mapping[str, Any], Sequence[str]]]:
        yield f"cluster {self.cluster_name!r}", self.cluster, _FILES["cluster"]
        yield f"user {self.user_name!r}", self.user, _FILES["user"]


def _entry(path: str, context: str | None) -> _Entry:
    """Read a kubeconfig and choose one context of it."""
    contexts: dict[str, Mapping[str, Any]] = {}
    clusters: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    users: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    current = None

    def fail(what: str) -> NoReturn:
        raise ConfigurationError(f"kubeconfig {path}: {what}")

    files = _files(path)
    for file in files:
        where = path if len(files) == 1 else str(file)
        data = _parse(where, _read(where, file))
        if data is None and len(files) > 1:
            continue  # an empty one
        if not isinstance(data, dict) or (len(files) == 1 and not isinstance(data.get("contexts"), list)):
            raise ConfigurationError(f"kubeconfig {where}: not a kubeconfig (no contexts)")
        current = current or data.get("current-context")
        contexts = {**_named(data.get("contexts"), "context"), **contexts}
        clusters = {**{name: (file, content) for name, content in _named(data.get("clusters"), "cluster").items()}, **clusters}
        users = {**{name: (file, content) for name, content in _named(data.get("users"), "user").items()}, **users}
    if not contexts:
        fail("it has no contexts, so it names no cluster; log in to one again, or name another file")
    name = context or current
    known = ", ".join(sorted(contexts))
    if not name:
        fail(f"no current-context; name one of its contexts with --k8snet-context, or --context of a k8snet command ({known})")
    if name not in contexts:
        fail(f"no context {name!r}; it has: {known}")
    chosen = contexts[name]
    cluster, user = chosen.get("cluster"), chosen.get("user")
    have = "file does" if len(files) == 1 else "files do"
    if cluster not in clusters:
        fail(f"context {name!r} is of cluster {cluster!r}, which the {have} not have")
    if user and user not in users:
        fail(f"context {name!r} is of user {user!r}, which the {have} not have")
    cluster_file, cluster_content = clusters[cluster]
    user_file, user_content = users.get(str(user), (cluster_file, {}))
    return _Entry(path, user_file, str(cluster), _rooted(cluster_content, "cluster", cluster_file), str(user), user_content)


def _files(path: str) -> list[Path]:
    """Return the file that a path names, or those of a list such as KUBECONFIG has: what is not there is left out, as kubectl does."""
    file = Path(path).expanduser()
    parts = [Path(part).expanduser().absolute() for part in path.split(os.pathsep) if part]
    if len(parts) < 2 or file.exists():
        return [file.absolute()]
    there = [part for part in parts if part.exists()]
    if not there:
        raise ConfigurationError(f"kubeconfig {path}: there is none of these files")
    return there


def _rooted(section: Mapping[str, Any], kind: str, file: Path) -> Mapping[str, Any]:
    """Return what a kubeconfig says with the files that it names beside itself as absolute ones."""
    return {**section, **{key: str(file.parent / str(section[key])) for key in _FILES[kind] if section.get(key)}}


def _read(path: str, file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigurationError(f"kubeconfig {path}: more than {_LARGEST >> 20} MiB; that is no kubeconfig")
        return data.decode()
    except FileNotFoundError as error:
        raise ConfigurationError(f"kubeconfig {path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"kubeconfig {path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigurationError(f"kubeconfig {path}: cannot be read: {error.strerror}") from error


def _parse(path: str, text: str) -> Any:
    # The parser's own messages quote the line, which may hold a token.
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError(f"kubeconfig {path}{f':{mark.line + 1}' if mark else ''}: not YAML") from None
    except (ValueError, RecursionError):
        raise ConfigurationError(f"kubeconfig {path}: not YAML") from None


def _named(items: object, key: str) -> dict[str, Mapping[str, Any]]:
    """Return the content of the entries of a list by their names; of two with the same name the first."""
    found: dict[str, Mapping[str, Any]] = {}
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            content = item.get(key)
            found.setdefault(item["name"], content if isinstance(content, dict) else {})
    return found


def _check(entry: _Entry) -> None:
    """Check what the `kubernetes` package says badly, or not at all."""
    server = entry.cluster.get("server")
    if not server:
        entry.fail(f"cluster {entry.cluster_name!r} has no server")
    url = _url(server)
    if url is None or url.scheme not in ("http", "https"):
        entry.fail(f"server {server!r} of cluster {entry.cluster_name!r} is not a URL such as https://192.0.2.1:6443")
    proxy = entry.cluster.get("proxy-url")
    if proxy and _url(proxy) is None:
        entry.fail(f"proxy-url of cluster {entry.cluster_name!r} is not a URL such as http://proxy.example:3128")
    for where, section, files in entry.sections():
        for key in files:
            if section.get(f"{key}-data"):
                _check_base64(entry, where, f"{key}-data", section[f"{key}-data"])
            elif section.get(key):
                _check_file(entry, where, key, section[key])
    if isinstance(entry.user.get("exec"), Mapping) or not entry.user.get("client-certificate"):
        return
    if not entry.user.get("client-key") and not entry.user.get("client-key-data"):
        entry.fail(f"user {entry.user_name!r} has a client-certificate and no client-key")


def _check_base64(entry: _Entry, where: str, key: str, value: object) -> None:
    try:
        base64.b64decode("".join(str(value).split()), validate=True)
    except (binascii.Error, ValueError):
        entry.fail(f"{key} of {where} is not base64; was it cut or wrapped when it was copied?")


def _check_file(entry: _Entry, where: str, key: str, value: object) -> None:
    file = entry.path.parent / str(value)
    try:
        file.read_bytes()
    except FileNotFoundError:
        entry.fail(f"{key} of {where}: there is no file {file}")
    except OSError as error:
        entry.fail(f"{key} of {where}: {file} cannot be read: {error.strerror}")


def _check_tls(path: str, configuration: Configuration) -> None:
    """Load certificates and key as connecting would: whatever is wrong with them is told once, and first."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if configuration.ssl_ca_cert:
            trust.load_verify_locations(configuration.ssl_ca_cert)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"kubeconfig {path}: its certificate-authority is no certificate in PEM form") from error
    if not configuration.cert_file:
        return
    try:
        # A passphrase is never asked for: that would wait for a terminal.
        trust.load_cert_chain(configuration.cert_file, configuration.key_file, password=_no_passphrase)
    except _NeedsPassphraseError:
        raise ConfigurationError(f"kubeconfig {path}: its client-key has a passphrase; keys in a kubeconfig have to be without") from None
    except (ssl.SSLError, OSError) as error:
        why = "do not belong together" if "MISMATCH" in str(error).upper() else "are not a certificate and a key in PEM form"
        raise ConfigurationError(f"kubeconfig {path}: its client-certificate and client-key {why}") from error


def _set_proxy(configuration: Configuration) -> None:
    """Take name and password out of the proxy's URL: they are sent in a header, and messages quote the URL."""
    url = _url(configuration.proxy)
    if url is not None and url.username:
        configuration.proxy_headers = {"proxy-authorization": f"Basic {_basic(url)}"}
        configuration.proxy = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()


class _NeedsPassphraseError(Exception):
    pass


def _no_passphrase() -> str:
    raise _NeedsPassphraseError


def _secrets(entry: _Entry) -> Iterator[str]:
    """Yield what of a kubeconfig must not be told."""
    user = entry.user
    yield from (str(user[key]) for key in _SECRETS if user.get(key))
    if user.get("client-key-data"):
        with suppress(binascii.Error, ValueError):  # told by the check that follows
            yield base64.b64decode(str(user["client-key-data"])).decode("utf-8", "replace")
    for key in ("client-key", "tokenFile"):
        if user.get(key):
            with suppress(OSError):
                yield (entry.path.parent / str(user[key])).read_text(encoding="utf-8", errors="replace")
    if user.get("username") and user.get("password"):
        yield base64.b64encode(f"{user['username']}:{user['password']}".encode()).decode()
    provider = user.get("auth-provider")
    options = provider.get("config") if isinstance(provider, Mapping) else None
    if isinstance(options, Mapping):
        yield from (str(options[key]) for key in ("id-token", "refresh-token", "access-token", "client-secret") if options.get(key))
    spec = user.get("exec")
    if isinstance(spec, Mapping):
        yield from (str(item["value"]) for item in spec.get("env") or () if isinstance(item, Mapping) and _is_secret_variable(item))
    for url in (_url(entry.cluster.get("proxy-url")), _url(entry.cluster.get("server"))):
        if url is not None and url.password:
            yield from (url.password, unquote(url.password), _basic(url))


def _is_secret_variable(item: Mapping[str, Any]) -> bool:
    """Whether a variable given to a credential plugin is more than a setting such as AWS_PROFILE=production."""
    name = str(item.get("name")).upper()
    return "value" in item and any(word in name for word in ("TOKEN", "SECRET", "PASS", "KEY", "CREDENTIAL"))


def _url(text: object) -> SplitResult | None:
    """Return the parts of a URL, None when it is none."""
    try:
        url = urlsplit(str(text))
        return url if url.hostname and (url.port is None or url.port > 0) else None
    except ValueError:
        return None


def _basic(url: SplitResult) -> str:
    return base64.b64encode(f"{unquote(url.username or '')}:{unquote(url.password or '')}".encode()).decode()


def _of(credential: Credential) -> list[str]:
    return [value for value in (credential.token, credential.key) if value]


def _as_user(credential: Credential) -> dict[str, str]:
    if credential.token is not None:
        return {"token": credential.token}
    assert credential.certificate is not None
    assert credential.key is not None
    return {
        "client-certificate-data": base64.b64encode(credential.certificate.encode()).decode(),
        "client-key-data": base64.b64encode(credential.key.encode()).decode(),
    }
