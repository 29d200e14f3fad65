"""What commands that reach a cluster, or read what runs have recorded of one, have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from pytest_k8snet.errors import K8sNetError

if TYPE_CHECKING:
    from pytest_k8snet.record.redact import Redactor


def cluster_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name a cluster."""
    return _cluster_options(function, required=True)


def optional_cluster_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name a cluster where something else may be named instead."""
    return _cluster_options(function, required=False)


def _cluster_options(function: Callable[..., Any], *, required: bool) -> Callable[..., Any]:
    with_context = click.option("--context", default=None, metavar="NAME", help="Context of the kubeconfig; its current one by default")
    with_kubeconfig = click.option("--kubeconfig", required=required, metavar="FILE", help="Kubeconfig of the cluster, or in-cluster")
    return with_kubeconfig(with_context(function))


@contextmanager
def told() -> Iterator[Redactor]:
    """Show what went wrong as one message, without what the redactor has learned of credentials."""
    # Not before a command runs: listing commands reads no patterns.
    from pytest_k8snet.record.redact import Redactor, secrets_of
    from pytest_k8snet.shown import shown

    redactor = Redactor(secrets_of(os.environ))
    try:
        yield redactor
    except K8sNetError as error:
        raise click.ClickException(shown(str(error), redactor)) from error
