"""Texts and parts of configuration objects. Errors name where the text stands and never quote it: it may hold a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import yaml

from pytest_k8snet.errors import ClusterError

#: Annotations of nodes in which k3s and RKE2 note the arguments of their server or agent, those of configuration files included.
NODE_ARGUMENTS = ("k3s.io/node-args", "rke2.io/node-args")


def read_json(text: str, source: str) -> dict[str, Any]:
    """Return the JSON object in a text; raise `ClusterError` when there is none."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ClusterError(f"{source}: not JSON: {error}") from error
    except RecursionError:
        raise ClusterError(f"{source}: not JSON") from None
    if not isinstance(data, dict):
        raise ClusterError(f"{source}: not an object")
    return data


def read_yaml(text: str, source: str, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML text that should hold `what`; raise `ClusterError` when there is none."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Not the parser's own message: it quotes the line.
        mark = getattr(error, "problem_mark", None)
        raise ClusterError(f"{source}: not YAML" + (f" (line {mark.line + 1})" if mark else "")) from None
    except (ValueError, RecursionError):
        raise ClusterError(f"{source}: not YAML") from None
    if not isinstance(data, dict):
        raise ClusterError(f"{source}: not a {what}")
    return data


def read_settings(text: str, source: str, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML text of which every line may be commented out."""
    lines = (line.strip() for line in text.splitlines())
    return read_yaml(text, source, what) if any(line and not line.startswith("#") for line in lines) else {}


def section(data: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return a mapping within others; an empty one where something else, or nothing, is."""
    value: object = data
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def items(data: Mapping[str, Any], *keys: str) -> Sequence[Mapping[str, Any]]:
    """Return the mappings in a list within others."""
    value = section(data, *keys[:-1]).get(keys[-1])
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def bytes_of(value: object, source: str) -> int:
    """Return an MTU; raise `ClusterError` when it is none."""
    if isinstance(value, int | str) and not isinstance(value, bool) and str(value).isdecimal():
        return int(value)
    raise ClusterError(f"{source}: not a number of bytes")


def name_of(item: Mapping[str, Any]) -> str:
    """Return ``namespace/name`` of an object, or its name."""
    metadata = item["metadata"]
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))


def containers(item: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the containers of a pod, or of what makes pods."""
    return items(item, "spec", "containers") or items(item, "spec", "template", "spec", "containers")


def environment(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment of all containers as far as the object itself has the values."""
    return {
        str(entry["name"]): str(entry["value"])
        for container in containers(item)
        for entry in items(container, "env")
        if "name" in entry and entry.get("value") is not None
    }


def words(container: Mapping[str, Any]) -> list[str]:
    """Return the command line of a container; one that a shell gets (``sh -c "exec kube-proxy ..."``) is taken apart."""
    given = [*(container.get("command") or ()), *(container.get("args") or ())]
    return [part for word in given for part in str(word).split()]


def flags(line: Sequence[str]) -> dict[str, str]:
    """Return the flags of a command line: ``--name=value``, ``--name value`` and ``--name`` (then ``true``)."""
    return dict(_flags(line))


def _flags(line: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, after in pairwise([*line, "--"]):
        if word.startswith("--") and "=" in word:
            name, _, value = word[2:].partition("=")
            yield name, value
        elif word.startswith("--"):
            yield word[2:], "true" if after.startswith("-") else after


def is_true(value: object) -> bool:
    """Whether a setting that is kept as a text is on."""
    return str(value).lower() in ("true", "1")


def arguments(text: str | None) -> Iterator[tuple[str, str]]:
    """Yield name and value of the arguments in a node's annotation, in their order; nothing where it is no JSON list."""
    try:
        given = json.loads(text or "[]")
    except ValueError:
        return
    line = [str(word) for word in given] if isinstance(given, list) else []
    for word, after in pairwise([*line, "--"]):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-"):
            yield name, value if equals else "true" if after.startswith("-") else after
        elif word == line[0]:
            yield "role", word  # server, agent: there is something to read
