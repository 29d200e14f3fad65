"""Read the text of a profile: YAML into plain values, with file and line of each. All that is wrong with it is collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import ConfigurationError

if TYPE_CHECKING:
    import yaml

_LARGEST = 1 << 20  # bytes
_MOST_VALUES = 100_000  # aliases within aliases can stand for more than fits into memory
_MERGE_KEY = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"

#: Where a value is in a profile: keys and, in lists, indices.
Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a profile."""

    file: Path
    line: int

    @property
    def origin(self) -> str:
        """The place as it stands behind a wanted value in a message."""
        return f"profile {self.file.name}:{self.line}"

    def __str__(self) -> str:
        """Return the place as an editor opens it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """The text of a profile's file; `path` is what messages call it."""

    path: Path
    text: str


@dataclass(slots=True)
class Draft:
    """Plain values of one or more files, with the place of each, and what is wrong with them: ``file:line: what``."""

    values: dict[str, Any] = field(default_factory=dict)
    marks: dict[Location, Mark] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def merge(self, other: Draft, *, waivers: bool = True) -> None:
        """Lay `other` over this: mappings by key, waivers one after the other (or left out), anything else replaced."""
        below = self.values.get("waivers") or []
        added = (other.values.get("waivers") or []) if waivers else []
        _overlay(self.values, {key: value for key, value in other.values.items() if key != "waivers"})
        if below or added:
            self.values["waivers"] = [*below, *added]
        for location, mark in other.marks.items():
            if location[0] == "waivers":
                if not waivers:
                    continue
                if len(location) > 1:
                    location = ("waivers", int(location[1]) + len(below), *location[2:])
            self.marks[location] = mark


def read_file(path: Path) -> ProfileFile:
    """Return the text of a file.

    Raises `ConfigurationError` when it is no file of text that a profile could be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigurationError(f"{path}: more than {_LARGEST >> 20} MiB; that is no profile")
        return ProfileFile(path, data.decode())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}:{line}: not UTF-8 text (byte {error.start} of the file); save it as UTF-8") from error


def parse(file: ProfileFile) -> Draft:
    """Return what a file says."""
    import yaml

    path = file.path
    draft = Draft()
    try:
        root = yaml.compose(file.text, Loader=yaml.SafeLoader)
        if root is None:
            return draft
        if isinstance(root, yaml.MappingNode):
            draft.values = _Reader(path, draft).read(root, (), ())
        else:
            draft.problems.append(f"{Mark(path, root.start_mark.line + 1)}: a profile is a mapping of keys to values")
    except yaml.reader.ReaderError as error:
        line = Mark(path, file.text.count("\n", 0, error.position) + 1)
        draft.problems.append(f"{line}: not valid YAML: character #x{error.character:02x} is not allowed")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = path if mark is None else Mark(path, mark.line + 1)
        draft.problems.append(f"{place}: not valid YAML: {_yaml_problem(error, file.text)}")
    except RecursionError:
        draft.problems.append(f"{path}: nested too deeply for a profile")
    except _TooMuchError as error:
        draft.problems.append(str(error))
    return draft


class _TooMuchError(Exception):
    """There is more in it than may be looked at."""


class _Reader:
    """Makes plain values of YAML's nodes."""

    def __init__(self, path: Path, draft: Draft) -> None:
        self._path = path
        self._marks = draft.marks
        self._problems = draft.problems

    def read(self, node: yaml.Node, at: Location, above: tuple[yaml.Node, ...]) -> Any:
        """Return the value of a node that is at `at`, below the nodes `above`."""
        import yaml

        mark = self._mark(node)
        if node in above:
            raise _TooMuchError(f"{mark}: an alias within what it stands for")
        if len(self._marks) > _MOST_VALUES:
            raise _TooMuchError(f"{mark}: more than {_MOST_VALUES} values, aliases taken apart")
        if isinstance(node, yaml.SequenceNode):
            items: list[Any] = []
            for index, child in enumerate(node.value):
                self._marks[(*at, index)] = self._mark(child)
                items.append(self.read(child, (*at, index), (*above, node)))
            return items
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at, above)
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            if node.tag != _TIMESTAMP:
                self._problems.append(f"{mark}: not valid YAML: {getattr(error, 'problem', None) or error}")
            return node.value  # a day that no month has is a word like any other; whoever wants a date says so

    def _mapping(self, node: yaml.MappingNode, at: Location, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        import yaml

        values: dict[str, Any] = {}
        for key_node, child in node.value:
            mark = self._mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.append(f"{mark}: a key is a plain word")
                continue
            if key_node.tag == _MERGE_KEY:
                self._problems.append(f"{mark}: YAML's merge key is not supported; use extends")
                continue
            key = str(key_node.value)
            if key in values:
                self._problems.append(f"{mark}: {key!r} is given twice, first in line {self._marks[(*at, key)].line}")
                continue
            self._marks[(*at, key)] = mark
            values[key] = self.read(child, (*at, key), (*above, node))
        return values

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self._path, node.start_mark.line + 1)


def _yaml_problem(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return "a tab; YAML is indented by blanks"
    problem = str(getattr(error, "problem", None) or error)
    return "a second document (---); a profile is one" if problem == "but found another document" else problem


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, Mapping):
            inner = below.get(key)
            below[key] = dict(inner) if isinstance(inner, Mapping) else {}
            _overlay(below[key], value)
        else:
            below[key] = value
