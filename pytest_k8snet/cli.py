"""The command ``k8snet``. Each subcommand is a module of `pytest_k8snet.commands`, imported only when it is called."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = ("checks", "cleanup", "lab", "manifests", "plot", "profile", "shards")


class LazyGroup(click.Group):
    """A group that imports its commands when they are asked for: listing checks needs no Kubernetes client and no lab."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names of all commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"pytest_k8snet.commands.{cmd_name}").command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-k8snet")
def main() -> None:
    """Prove that a Kubernetes cluster's network does what it claims. The suite itself is run by pytest."""
