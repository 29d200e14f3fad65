"""The command `k8snet checks`: the catalogue of the packaged checks."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pytest_k8snet.catalogue import checks, pages
from pytest_k8snet.commands.writing import writing


@click.command("checks")
@click.option("--json", "as_json", is_flag=True, help="Print the catalogue as JSON: id, title, area, level, subject, doc.")
@click.option(
    "--write-docs",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the page of every check into this folder (for maintainers: docs/checks).",
)
def command(as_json: bool, folder: Path | None) -> None:
    """List the checks of the packaged suite."""
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
