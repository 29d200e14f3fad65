"""docs/lab.md says what the commands and the code say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pytest_k8snet.commands.lab import command
from pytest_k8snet.lab.addresses import AddressPlan
from pytest_k8snet.lab.component import CILIUM, COMPONENTS, FLANNEL, PAUSE
from pytest_k8snet.lab.debian import SUITE, TOOLS, TOOLS_FOR_XSTATE, TOOLS_WITHOUT_ROOT
from pytest_k8snet.lab.networks import NETWORKS
from pytest_k8snet.lab.settings import NETWORK_KINDS, PROXY_MODES, SERVICE_CIDR, LabSettings

PAGE = (Path(__file__).parents[3] / "docs" / "lab.md").read_text()


def commands(group: click.Group, words: str) -> Iterator[tuple[str, click.Command]]:
    for name, item in group.commands.items():
        if isinstance(item, click.Group):
            yield from commands(item, f"{words} {name}")
        else:
            yield f"{words} {name}", item


assert isinstance(command, click.Group)
COMMANDS = dict(commands(command, "k8snet lab"))


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_and_option_is_there(words: str) -> None:
    starts = (f"| `{words}", f"| `{words.rpartition(' ')[0]} apply\\|")
    rows = [line for line in PAGE.splitlines() if line.startswith(starts)]
    text = " ".join(rows)
    assert rows, f"no row about {words}"
    for parameter in COMMANDS[words].params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in text, f"{words} {parameter.opts[0]}"


def test_every_option_that_is_there_exists() -> None:
    existing = {name for item in COMMANDS.values() for parameter in item.params for name in parameter.opts}
    named = {name for name in re.findall(r"(?<![\w-])--[a-z][\w-]*", PAGE) if not name.startswith("--k8snet-")}
    assert named <= existing


def test_figures_are_those_of_the_code() -> None:
    plan = AddressPlan.of(LabSettings())
    wanted = [
        f"{'CNI plugins' if item.name == 'cni-plugins' else item.name} {item.version}"
        for item in (*COMPONENTS, FLANNEL, CILIUM)
        if item is not PAUSE
    ]
    wanted += [
        plan.api_address,
        plan.proxy_api_address,
        plan.dns_service_address,
        str(SERVICE_CIDR),
        SUITE,
        *(f"({network.pod_mtu})" for network in NETWORKS.values() if network.encapsulation != "none"),
    ]
    wanted += [value for node in plan.nodes[:2] for value in (node.address, node.pod_cidr)]
    wanted += [*TOOLS.values(), *TOOLS_WITHOUT_ROOT.values(), *TOOLS_FOR_XSTATE.values()]
    wanted += [r"\|".join(PROXY_MODES), r"\|".join(NETWORK_KINDS)]
    assert [text for text in wanted if text.lower() not in PAGE.lower()] == []
