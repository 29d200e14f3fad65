"""``k8snet shards``: a run in parts, measured by an Indexed Job inside the cluster."""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing
from pathlib import Path

import click

from pytest_k8snet.commands.cluster import cluster_options, told
from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.shards.layout import JOB

_KEEP_S = 3600.0
_out = click.option(
    "-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The bundle to write (.tar.zst)"
)


@click.group("shards")
def command() -> None:
    """Measure a large cluster in parts, from inside: `k8snet manifests job` prints the Job, `collect` fetches what it measured."""


@command.command("run", context_settings={"ignore_unknown_options": True})
@click.option("--shards", required=True, type=click.IntRange(min=1), metavar="N", help="How many pods the Job has")
@click.option(
    "--keep", "keep_s", default=_KEEP_S, show_default=True, metavar="SECONDS", help="How long to wait for somebody to fetch the bundle"
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(shards: int, keep_s: float, arguments: tuple[str, ...]) -> None:
    """Measure this pod's shard. For the pods of the Job; ARGUMENTS are those of pytest."""
    from pytest_k8snet.shards.inside import measure

    with told():
        status = measure(shards, arguments, keep_s=keep_s)
    sys.exit(status)


@command.command("collect")
@cluster_options
@click.option("--namespace", default="k8snet", show_default=True, metavar="NAME", help="Namespace of the Job")
@click.option("--timeout", "timeout_s", default=1800.0, show_default=True, metavar="SECONDS", help="How long to wait for the shards")
@_out
def collect(kubeconfig: str, context: str | None, namespace: str, timeout_s: float, out: Path) -> None:
    """Wait for every shard, join what they measured into one bundle, and remove the Job."""
    from pytest_k8snet.access.base import PATIENCE_S, Deadline
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.record.bundle import check_target
    from pytest_k8snet.shards.collect import JobPods
    from pytest_k8snet.shards.merge import merge

    with told() as redactor:
        check_target(out, "--out")
        with closing(Api.from_kubeconfig(kubeconfig, context, learn=redactor.learn)) as api:
            pods = JobPods(api, namespace, JOB)
            pods.count()
            api.patience_s = PATIENCE_S
            with tempfile.TemporaryDirectory(prefix="k8snet-") as folder:
                joined = merge(pods.fetch(Path(folder), Deadline.after(timeout_s), click.echo), out)
            pods.release()
    click.echo(f"{out}: {joined}: judge it with pytest --k8snet-replay={out}")


@command.command("merge")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_out
def merge_command(bundles: tuple[Path, ...], out: Path) -> None:
    """Join the bundles or run folders of all shards into one bundle."""
    from pytest_k8snet.record.bundle import check_target
    from pytest_k8snet.shards.merge import merge

    with told():
        if any(out.resolve().is_relative_to(bundle.resolve()) for bundle in bundles):
            raise ConfigurationError(f"--out: {out}: is of a shard that is joined; name another file")
        check_target(out, "--out")
        joined = merge(bundles, out)
    click.echo(f"{out}: {joined}: judge it with pytest --k8snet-replay={out}")
