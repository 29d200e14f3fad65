"""The one tree of errors: everything that is not a verdict about the network.

A judgement that found a fault is never an exception of this tree. These say that something could not be configured, reached, measured
or read.
"""

from __future__ import annotations


class K8sNetError(Exception):
    """Base of every error raised by this package."""


class ConfigurationError(K8sNetError, ValueError):
    """An option, environment variable, profile or kubeconfig is not usable as it is."""


class ClusterError(K8sNetError):
    """The Kubernetes API refused, failed or did not answer."""


class AccessError(K8sNetError):
    """A node or pod could not be reached, or the way to it broke."""


class ConnectError(AccessError):
    """No connection to a node, pod or API server."""


class UnreachableError(AccessError):
    """No connection to a node that was never reached before: nothing broke, and waiting for it would be in vain."""


class AuthenticationError(AccessError):
    """The other side does not accept who we are, or does not allow it."""


class CommandTimeout(AccessError, TimeoutError):  # noqa: N818 - the name says it
    """A command or request did not answer before its deadline."""


class ExecTransportError(AccessError):
    """An exec stream ended without telling how its command ended."""


#: What says that a way broke, and nothing about what was asked over it.
TRANSPORT_ERRORS = (ConnectError, ExecTransportError)


class ProbeError(AccessError):
    """A probe pod could not be made or did not start; the message names the object and the reason."""


class UnsupportedError(AccessError):
    """The way to a node cannot do what was asked, in whatever state the node is: what needs it is skipped, and nothing is wrong."""


class NoPodError(UnsupportedError):
    """This access makes no probe pods."""


class NoAgentError(UnsupportedError):
    """The node has no python3 that the agent could run in."""


class MeasurementError(K8sNetError):
    """A measurement could not be taken, or what it gave cannot be used."""


class RecordError(K8sNetError):
    """A recorded document is missing, damaged or of an unknown schema."""


class LabError(K8sNetError):
    """The lab could not do what was asked."""
