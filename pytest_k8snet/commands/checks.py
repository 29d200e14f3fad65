"""The command `k8snet checks`: the catalogue of the packaged checks."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pytest_k8snet.asked import matching, meant
from pytest_k8snet.catalogue import Check, checks, pages
from pytest_k8snet.commands.writing import writing


@click.command("checks")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--json", "as_json", is_flag=True, help="Print the catalogue as JSON: id, title, area, level, subject, doc.")
@click.option(
    "--write-docs",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the page of every check into this folder (for maintainers: docs/checks).",
)
def command(ids: tuple[str, ...], as_json: bool, folder: Path | None) -> None:
    """List the checks of the packaged suite, or print the pages of those named.

    An ID is one such as NET-MTU-001, with wildcards where it is quoted ('NET-MTU-*'). Its page says what is judged, why, how it is
    measured, and how to mend what is wrong.
    """
    if ids:
        if as_json or folder is not None:
            raise click.UsageError("pages of single checks go with neither --json nor --write-docs")
        click.echo("\n".join(check.page() for check in _named(ids)), nl=False)
        return
    if folder is not None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in pages().items():
                (folder / name).write_text(text, encoding="utf-8")
        click.echo(f"{len(checks())} checks written to {folder}")
    elif as_json:
        click.echo(json.dumps([check.to_json() for check in checks()], indent=2))
    else:
        width = max(len(check.id) for check in checks())
        for check in checks():
            click.echo(f"{check.id:<{width}}  {check.level:<5}  {check.subject:<7}  {check.title}")


def _named(patterns: tuple[str, ...]) -> list[Check]:
    known = [check.id for check in checks()]
    for pattern in patterns:
        if not matching(pattern.upper(), known):
            raise click.ClickException(f"there is no check {pattern!r}; {meant(pattern, known)}")
    return [check for check in checks() if any(matching(pattern.upper(), [check.id]) for pattern in patterns)]
