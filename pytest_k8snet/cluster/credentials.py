"""Credential plugins (``users[].user.exec`` of a kubeconfig), run with a deadline.

Not by the `kubernetes` package: it waits for them without end, and only logs what they say when they fail.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pytest_k8snet.errors import AuthenticationError

DEADLINE_S = 60.0
_EARLY = timedelta(minutes=5)  # a credential is renewed before it has expired

# What of a cluster a plugin is told, by its name in a kubeconfig (k8s.io/client-go/pkg/apis/clientauthentication).
_TOLD = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url", "disable-compression")


@dataclass(frozen=True, slots=True)
class Credential:
    """What a plugin gave: a token, or a client certificate with its key (PEM)."""

    token: str | None = None
    certificate: str | None = None
    key: str | None = None
    expires: datetime | None = None

    @property
    def expired(self) -> bool:
        """Whether it is time for a new one."""
        return self.expires is not None and self.expires - _EARLY <= datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A credential plugin: its section of the kubeconfig at `path`, and the cluster it is for."""

    path: Path
    spec: Mapping[str, Any]
    cluster: Mapping[str, Any]

    def run(self, deadline_s: float = DEADLINE_S) -> Credential:
        """Run the plugin and return what it gave.

        Raises `AuthenticationError` when it cannot be run, fails, does not end in time or gives nothing that is a credential.
        """
        command = str(self.spec.get("command") or "")
        arguments = [str(word) for word in self.spec.get("args") or ()]
        if not command:
            raise self._error("names no command")
        program = str(self.path.parent / command) if "/" in command else command
        try:
            process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,  # nobody is there to log in
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.path.parent,
                env=self._environment(),
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            hint = self.spec.get("installHint")
            raise self._error(f"cannot be run: {error.strerror}" + (f" ({str(hint).strip()})" if hint else "")) from error
        with process:
            try:
                out, err = process.communicate(timeout=deadline_s)
            except BaseException as error:  # Ctrl-C as well
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
                if isinstance(error, subprocess.TimeoutExpired):
                    raise self._error(f"has not ended after {deadline_s:g} s: does it wait for a login? Run it by hand first") from None
                raise
        if process.returncode != 0:
            raise self._error(f"failed: exit status {process.returncode}: {err.strip()[-500:] or 'no message'}. Run it by hand to see more")
        return self._read(out)

    def _environment(self) -> dict[str, str]:
        given = {str(item["name"]): str(item["value"]) for item in self.spec.get("env") or () if "name" in item and "value" in item}
        told: dict[str, Any] = {"interactive": False}
        if self.spec.get("provideClusterInfo"):
            told["cluster"] = {key: self.cluster[key] for key in _TOLD if key in self.cluster}
            for extension in self.cluster.get("extensions") or ():
                if extension.get("name") == "client.authentication.k8s.io/exec":
                    told["cluster"]["config"] = extension.get("extension")
        info = {"apiVersion": self.spec.get("apiVersion"), "kind": "ExecCredential", "spec": told}
        return {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(info)}

    def _read(self, out: str) -> Credential:
        try:
            answer = json.loads(out)
        except ValueError:
            answer = None  # not what it wrote: that may be a credential
        status = answer.get("status") if isinstance(answer, dict) else None
        if not isinstance(status, dict):
            raise self._error("did not write an ExecCredential as JSON")
        if answer.get("apiVersion") != self.spec.get("apiVersion"):
            raise self._error(f"speaks {answer.get('apiVersion')}, and the kubeconfig wants {self.spec.get('apiVersion')}")
        token, certificate, key = (status.get(name) or None for name in ("token", "clientCertificateData", "clientKeyData"))
        if token is None and (certificate is None or key is None):
            raise self._error("gave neither a token nor a certificate with its key")
        return Credential(token, certificate, key, self._expiry(status.get("expirationTimestamp")))

    def _expiry(self, text: object) -> datetime | None:
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(str(text))
        except ValueError as error:
            raise self._error(f"gave an expirationTimestamp that is no time: {text!r}") from error
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _error(self, what: str) -> AuthenticationError:
        return AuthenticationError(f"kubeconfig {self.path}: the credential plugin {str(self.spec.get('command'))!r} {what}")
