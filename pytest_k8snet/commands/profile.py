"""``k8snet profile``: what a network is meant to be, to look up, to check and to begin with."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_k8snet.commands.cluster import optional_cluster_options, told
from pytest_k8snet.commands.writing import writing
from pytest_k8snet.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_k8snet.cluster.model import Cluster
    from pytest_k8snet.expect.profile import Profile
    from pytest_k8snet.record.recording import Recording
    from pytest_k8snet.record.redact import Redactor


@click.group("profile")
def command() -> None:
    """Look up, check and begin profiles: what a network is meant to be. docs/profiles.md says what is in them."""


@command.command("list")
def list_command() -> None:
    """List the shipped profiles."""
    from pytest_k8snet.expect.profile import load_profiles, shipped_profiles

    with told():
        names = shipped_profiles()
        width = max(map(len, names))
        for name in names:
            model = load_profiles([name]).model
            extends = f" (extends {', '.join(model.extends)})" if model.extends else ""
            click.echo(f"{name:<{width}}  {model.description}{extends}")


@command.command("show")
@click.argument("profiles", nargs=-1, required=True, metavar="PROFILE...")
def show(profiles: tuple[str, ...]) -> None:
    """Print what profiles add up to.

    Each value with its file and line; later profiles win.

    PROFILE is the name of a shipped profile or a path. What is printed is a profile itself.
    """
    with told():
        from pytest_k8snet.expect.profile import load_profiles
        from pytest_k8snet.expect.written import merged_text

        click.echo(merged_text(load_profiles(profiles, asked_by="k8snet profile show")), nl=False)


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of profiles, for editors."""
    from pytest_k8snet.expect.profile import json_schema

    click.echo(json_schema(), nl=False)


@command.command("lint")
@click.argument("profiles", nargs=-1, required=True, metavar="PROFILE...")
def lint(profiles: tuple[str, ...]) -> None:
    """Name every mistake in profiles.

    Each with file, line, key and what would be valid, also in what they extend.

    The exit status is 1 when there is one. Waivers that end soon or have ended are named, and are no mistake.
    """
    from pytest_k8snet.expect.profile import lint_profile
    from pytest_k8snet.shown import shown

    today = datetime.now(UTC).date()
    wrong, told_of = 0, set[str]()
    with told() as redactor:
        for name in profiles:
            profile, lines = lint_profile(name, asked_by="k8snet profile lint")
            if profile is None:
                wrong += 1
                lines = [line for line in lines if line not in told_of]  # of what several of them extend
                told_of.update(lines)
            else:
                from pytest_k8snet.expect.resolve import waivers_of
                from pytest_k8snet.expect.waivers import ending

                lines = [f"{name}: valid", *(f"{name}: {note}" for note in ending(waivers_of(profile), today))]
            for line in lines:
                click.echo(shown(line, redactor, keep="\t"))
    if wrong:
        click.echo(f"mistakes: {len(told_of)}, in {wrong} of {len(profiles)} profile{'s' * (len(profiles) > 1)}")
        sys.exit(1)


@command.command("explain")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@optional_cluster_options
@click.option("--profile", "profiles", multiple=True, metavar="PROFILE", help="Name or file; repeatable, later ones win")
@click.option("--node", "nodes", multiple=True, metavar="NODE", help="Only this node; repeatable")
def explain(run: Path | None, kubeconfig: str | None, context: str | None, profiles: tuple[str, ...], nodes: tuple[str, ...]) -> None:
    """Print what is expected of every node, and who wants it.

    Of a cluster by --kubeconfig (it is read, and nothing else), or of a recorded RUN, which is a run folder or a bundle: nothing is
    contacted then, and its own profiles count unless --profile gives others.
    """
    from pytest_k8snet.shown import shown

    _see_that_one_is_named(run, kubeconfig)
    with told() as redactor:
        from pytest_k8snet.expect.explain import explained_text
        from pytest_k8snet.expect.resolve import resolve

        if run is not None:
            with _recorded(run) as recording:
                cluster, profile = _cluster_of(recording), _profile_of(recording, profiles)
                origin = f"run {recording.run.id} of {recording.run.at:%Y-%m-%d %H:%M} UTC"
        else:
            assert kubeconfig is not None
            profile = _named(profiles)
            cluster, origin = _read_cluster(kubeconfig, context, redactor)
        known = [node.name for node in cluster.nodes if node.excluded is None]
        unknown = sorted({*nodes}.difference(known))
        if unknown:
            raise click.UsageError(f"--node: no node {', '.join(unknown)}; there are: {', '.join(known)}")
        names = "none" if profile is None else ", ".join(profile.names)
        head = f"Kubernetes {cluster.version}, CNI {cluster.cni or 'unknown'} ({origin}); profiles: {names}\n\n"
        text = explained_text(resolve(profile, cluster), cluster, profile, nodes or tuple(known))
        click.echo(shown(head + text, redactor), nl=False)


@command.command("init")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@optional_cluster_options
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it there; it must not be there yet"
)
def init(run: Path | None, kubeconfig: str | None, context: str | None, out: Path | None) -> None:
    """Begin a profile: what the nodes of a cluster have now, or had in a recorded RUN.

    By --kubeconfig the cluster is looked at by a run of level read, whose other settings are the usual ones: environment and ini file.
    RUN is a run folder or a bundle: `pytest --k8snet-kubeconfig=FILE --k8snet-level=read --k8snet-save-bundle=now.tar.zst`. Behind each
    value stand the nodes it was read from. Where nodes disagree nothing is chosen: what they have is written as comments.
    """
    _see_that_one_is_named(run, kubeconfig)
    if out is not None and out.exists():
        raise click.ClickException(f"{out}: is there already; name another file")
    if out is not None and not out.parent.is_dir():
        raise click.ClickException(f"{out}: there is no folder {out.parent}; name another file")  # before a cluster is looked at
    with told(), ExitStack() as stack:
        from pytest_k8snet.beginning import begin_profile

        if kubeconfig is not None:
            run = stack.enter_context(_looked_at(kubeconfig, context))
        assert run is not None
        with _recorded(run) as recording:
            text = begin_profile(recording, _profile_of(recording, ()), "cluster" if out is None else out.stem)
        if out is None:
            click.echo(text, nl=False)
            return
        with writing(out), out.open("x", encoding="utf-8") as file:
            file.write(text)
    of_whom = ["the same run", f"--k8snet-replay={run}"] if kubeconfig is None else ["the cluster", f"--k8snet-kubeconfig={kubeconfig}"]
    again = shlex.join(["pytest", of_whom[1], f"--k8snet-profile={out}"])
    click.echo(f"{out}: look through it, then judge {of_whom[0]} by it: {again}")


def _see_that_one_is_named(run: Path | None, kubeconfig: str | None) -> None:
    if run is None and kubeconfig is None:
        raise click.UsageError("name a cluster by --kubeconfig, or a recorded run: a run folder or a bundle")
    if run is not None and kubeconfig is not None:
        raise click.UsageError("a cluster (--kubeconfig) and a recorded run exclude each other; name one of them")


@contextmanager
def _looked_at(kubeconfig: str, context: str | None) -> Iterator[Path]:
    """Look at a cluster by a run of level read; give the run's folder. What the run says goes to stderr: stdout is the profile's.

    Raises `ConfigurationError` when it could not be looked at.
    """
    with tempfile.TemporaryDirectory(prefix="k8snet-init-") as folder:
        run = Path(folder) / "run"
        argv = [sys.executable, "-m", "pytest", f"--k8snet-kubeconfig={kubeconfig}", *([f"--k8snet-context={context}"] if context else [])]
        # Checks alone: tests of the folder that this is called in have nothing to do with it.
        argv += ["--k8snet-level=read", f"--k8snet-run-dir={run}", "-m", "k8snet_check", "-q", "-p", "no:cacheprovider"]
        sys.stderr.flush()
        status = subprocess.run(argv, stdout=sys.stderr.fileno(), check=False).returncode
        # That checks are red is no hindrance: it is as it is. Without facts there is nothing to begin with.
        if status not in (0, 1) or not any((run / "facts").glob("*.json")):
            raise ConfigurationError("the cluster could not be looked at, for the reasons above")
        yield run


@contextmanager
def _recorded(path: Path) -> Iterator[Recording]:
    """Open a recorded run."""
    from pytest_k8snet.record.recording import open_recording

    with closing(open_recording(path)) as recording:
        yield recording


def _cluster_of(recording: Recording) -> Cluster:
    from pytest_k8snet.access.replay import ReplayBackend

    return ReplayBackend(recording.run, recording.read_json, str(recording.path)).read_cluster()


def _profile_of(recording: Recording, profiles: tuple[str, ...]) -> Profile | None:
    """Return the profiles that are named, else those of the recorded run."""
    if profiles:
        return _named(profiles)
    from pytest_k8snet.options import Settings
    from pytest_k8snet.replay import replayed_profile

    return replayed_profile(recording.run, Settings().with_recorded(recording.run.settings), recording.read_json)


def _named(profiles: tuple[str, ...]) -> Profile | None:
    from pytest_k8snet.expect.profile import load_profiles

    return load_profiles(profiles, asked_by="--profile") if profiles else None


def _read_cluster(kubeconfig: str, context: str | None, redactor: Redactor) -> tuple[Cluster, str]:
    """Read the inventory of a cluster, and say whose."""
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.inventory import read_cluster

    with closing(Api.from_kubeconfig(kubeconfig, context, learn=redactor.learn)) as api:
        return read_cluster(api), f"{api.server}, {api.origin}"
