"""``k8snet manifests``: Kubernetes objects to apply."""

from __future__ import annotations

import click

from pytest_k8snet.access.image import is_image
from pytest_k8snet.options import LEVELS, is_namespace


def _see_name(_context: click.Context, _parameter: click.Parameter, namespace: str | None) -> str | None:
    if namespace is not None and not is_namespace(namespace):
        raise click.BadParameter(f"{namespace!r} is no name of a namespace: lower-case letters, digits and '-'", param_hint="--namespace")
    return namespace


def _see_image(_context: click.Context, _parameter: click.Parameter, image: str) -> str:
    if not is_image(image):
        raise click.BadParameter("want the reference of an image, such as registry.example.com/k8snet:1", param_hint="--image")
    return image


@click.group("manifests")
def command() -> None:
    """Print Kubernetes objects to apply."""


@command.command("rbac")
@click.option("--level", type=click.Choice(LEVELS), required=True, help="What the runs may do, as in --k8snet-level")
@click.option(
    "--access", type=click.Choice(("pod", "ssh", "local")), default="pod", show_default=True, help="Way to the nodes, as in --k8snet-access"
)
@click.option(
    "--namespace",
    metavar="NAME",
    default=None,
    callback=_see_name,
    help="Namespace of the probe pods, as in --k8snet-namespace; it has to exist",
)
@click.option("--ingress", is_flag=True, help="Ingresses of the run's own too, for profiles with ingress.routes")
def rbac(level: str, access: str, namespace: str | None, *, ingress: bool) -> None:
    """Print a service account with the least rights that a run needs, and what each is for."""
    # Not before the command is known to be this one: it imports a YAML parser.
    from pytest_k8snet.manifests.rbac import rbac as manifest

    click.echo(manifest(level, access, namespace, ingresses=ingress), nl=False)


@command.command("job", context_settings={"ignore_unknown_options": True})
@click.option("--shards", required=True, type=click.IntRange(min=1), metavar="N", help="How many pods share the nodes")
@click.option("--image", required=True, metavar="REFERENCE", callback=_see_image, help="An image with python3 and pytest-k8snet")
@click.option(
    "--namespace", default="k8snet", show_default=True, metavar="NAME", callback=_see_name, help="Namespace of the Job and its account"
)
@click.option(
    "--service-account", default="k8snet", show_default=True, metavar="NAME", help="Its account, such as `k8snet manifests rbac` prints"
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def job(shards: int, image: str, namespace: str, service_account: str, arguments: tuple[str, ...]) -> None:
    """Print an Indexed Job that measures the cluster from inside, each pod a part of the nodes.

    ARGUMENTS are those of pytest: `k8snet manifests job --shards 3 --image ... -- --k8snet-level=read`.
    """
    from pytest_k8snet.manifests.job import job as manifest

    click.echo(manifest(shards=shards, image=image, namespace=namespace, service_account=service_account, arguments=arguments), nl=False)
