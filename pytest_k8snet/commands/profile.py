"""``k8snet profile``: what a network is meant to be, to look up, to check and to begin with."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from pytest_k8snet.commands.cluster import told


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
