"""``k8snet cleanup``: remove what killed runs left in a cluster."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import timedelta

import click

from pytest_k8snet.commands.cluster import cluster_options, told
from pytest_k8snet.options import is_namespace

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def age(text: str) -> timedelta:
    """Read an age as ``90s``, ``30m``, ``1h`` or ``2d``."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not an age: a number and one of s, m, h, d, such as 1h")
    return timedelta(seconds=int(found.group(1)) * _UNITS[found.group(2)])


@click.command("cleanup")
@cluster_options
@click.option(
    "--older-than", type=age, metavar="AGE", default=None, help="Remove what is older, such as 1h, not only what is past its deadline"
)
@click.option(
    "--namespace", metavar="NAME", default=None, help="Look in this namespace alone, with rights on nothing else; as in --k8snet-namespace"
)
@click.option("--all", "everything", is_flag=True, help="Remove everything, also what a run that is going on uses")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed")
def command(
    kubeconfig: str, context: str | None, older_than: timedelta | None, namespace: str | None, *, everything: bool, dry_run: bool
) -> None:
    """Remove namespaces, pods, priority classes and the Lease that killed runs left in a cluster.

    Objects are recognised by their labels. Without --older-than and --all only those past their own deadline are removed.
    """
    # Not before the command is known to be this one: it imports the Kubernetes client.
    from pytest_k8snet import cleanup
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.api_error import ApiError
    from pytest_k8snet.errors import ClusterError

    if everything and older_than is not None:
        raise click.UsageError("--all and --older-than exclude each other")
    if namespace is not None and not is_namespace(namespace):
        raise click.BadParameter(f"{namespace!r} is no name of a namespace: lower-case letters, digits and '-'", param_hint="--namespace")
    with told() as redactor, closing(Api.from_kubeconfig(kubeconfig, context, learn=redactor.learn)) as api:
        try:
            found = cleanup.find(api, namespace)
        except ApiError as error:
            if error.status != 403 or namespace is not None:
                raise
            raise ClusterError(f"{error} An account that may only look into one namespace: k8snet cleanup --namespace NAME") from error
        chosen = cleanup.choose(found, older_than=older_than, everything=everything)
        for item in chosen:
            if not dry_run:
                cleanup.remove(api, item)
            click.echo(f"{'would remove' if dry_run else 'removed'} {item}")
    kept = len(found) - len(chosen)
    if not chosen:
        click.echo("nothing to remove")
    if kept:
        click.echo(f"kept {kept} that {'is' if kept == 1 else 'are'} younger; --older-than or --all removes more")
