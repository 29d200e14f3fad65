"""Read profiles: YAML files that say what a cluster's network is meant to be. Every value keeps the file and line it came from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import ConfigurationError

if TYPE_CHECKING:
    import yaml
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from pytest_k8snet.expect.schema import ProfileModel

SHIPPED = Path(__file__).parent / "profiles"

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
class Profile:
    """One or more profiles merged: what is wanted, and where each value comes from."""

    model: ProfileModel
    marks: Mapping[Location, Mark]
    names: tuple[str, ...]

    def origin(self, *location: str | int) -> str:
        """Return where the value at `location` comes from: ``profile tuned-node.yaml:7``."""
        return self.marks[location].origin


@dataclass(slots=True)
class _Draft:
    """Plain values of one or more files, with the place of each."""

    values: dict[str, Any] = field(default_factory=dict)
    marks: dict[Location, Mark] = field(default_factory=dict)

    def merge(self, other: _Draft) -> None:
        """Lay `other` over this: mappings by key, waivers one after the other, anything else replaced."""
        below = self.values.get("waivers") or []
        waivers = [*below, *(other.values.get("waivers") or [])]
        _overlay(self.values, other.values)
        if waivers:
            self.values["waivers"] = waivers
        for location, mark in other.marks.items():
            if location[0] == "waivers" and len(location) > 1:
                location = ("waivers", int(location[1]) + len(below), *location[2:])
            self.marks[location] = mark


def shipped_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def load_profiles(names: Sequence[str]) -> Profile:
    """Read profiles by name (of a shipped one) or path and merge them; later ones win.

    Raises `ConfigurationError` with file and line for anything that is not a valid profile.
    """
    draft = _Draft()
    for name in names:
        draft.merge(_read(_find(name, base=Path(), asked_by="--k8snet-profile"), ()))
    return Profile(model=_validate(draft), marks=draft.marks, names=tuple(names))


def json_schema() -> str:
    """Return the JSON schema of a profile, as docs/profile.schema.json publishes it."""
    from pytest_k8snet.expect.schema import ProfileModel

    schema = ProfileModel.model_json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "pytest-k8snet profile"}
    return json.dumps({**head, **{key: value for key, value in schema.items() if key != "title"}}, indent=2) + "\n"


def _find(name: str, *, base: Path, asked_by: str) -> Path:
    shipped = shipped_profiles()
    if name in shipped:
        return SHIPPED / f"{name}.yaml"
    path = base / Path(name).expanduser()
    if path.is_file():
        return path
    close = difflib.get_close_matches(name, shipped, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigurationError(
        f"{asked_by}: no profile {name!r}: it is neither a file nor one of the shipped profiles ({', '.join(shipped)}){hint}"
    )


def _read(path: Path, extending: tuple[Path, ...]) -> _Draft:
    """Read a file and, below it, what it extends."""
    if path.resolve() in extending:
        chain = " -> ".join(item.name for item in (*extending, path.resolve()))
        raise ConfigurationError(f"{path}: profiles extend each other in a circle: {chain}")
    own = _parse(path)
    model = _validate(own)
    if model.extends is None:
        return own
    parent = _find(model.extends, base=path.parent, asked_by=str(own.marks[("extends",)]))
    draft = _read(parent, (*extending, path.resolve()))
    draft.merge(own)
    return draft


def _parse(path: Path) -> _Draft:
    import yaml

    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text: byte {error.start}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = path if mark is None else Mark(path, mark.line + 1)
        raise ConfigurationError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    draft = _Draft()
    if root is None:
        return draft
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{Mark(path, root.start_mark.line + 1)}: a profile is a mapping of keys to values")
    draft.values = _construct(root, path, (), draft.marks, ())
    return draft


def _construct(node: yaml.Node, path: Path, at: Location, marks: dict[Location, Mark], above: tuple[yaml.Node, ...]) -> Any:
    import yaml

    mark = Mark(path, node.start_mark.line + 1)
    if node in above:
        raise ConfigurationError(f"{mark}: an alias within what it stands for")
    if isinstance(node, yaml.SequenceNode):
        items: list[Any] = []
        for index, child in enumerate(node.value):
            marks[(*at, index)] = Mark(path, child.start_mark.line + 1)
            items.append(_construct(child, path, (*at, index), marks, (*above, node)))
        return items
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, child in node.value:
            key_mark = Mark(path, key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigurationError(f"{key_mark}: a key is a plain word")
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise ConfigurationError(f"{key_mark}: YAML's merge key is not supported; use extends")
            key = str(key_node.value)
            if key in values:
                raise ConfigurationError(f"{key_mark}: {key!r} is given twice, first in line {marks[(*at, key)].line}")
            marks[(*at, key)] = key_mark
            values[key] = _construct(child, path, (*at, key), marks, (*above, node))
        return values
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(f"{mark}: not valid YAML: {getattr(error, 'problem', None) or error}") from error


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, Mapping):
            inner = below.get(key)
            below[key] = dict(inner) if isinstance(inner, Mapping) else {}
            _overlay(below[key], value)
        else:
            below[key] = value


def _validate(draft: _Draft) -> ProfileModel:
    from pydantic import ValidationError

    from pytest_k8snet.expect.schema import ProfileModel

    values = {key: value for key, value in draft.values.items() if value is not None}  # a section without content
    try:
        return ProfileModel.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_explain(draft, ProfileModel, item) for item in error.errors())) from error


def _explain(draft: _Draft, model: type[BaseModel], error: ErrorDetails) -> str:
    location = tuple(part for part in error["loc"] if part != "[key]")
    known = location
    while known and known not in draft.marks:
        known = known[:-1]  # a missing key has no line: that of its section
    mark = draft.marks.get(known) or next(iter(draft.marks.values()))
    name = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        keys = tuple(_keys(model, location[:-1]))
        close = difflib.get_close_matches(str(location[-1]), keys, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(keys)}"
        return f"{mark}: unknown key {name!r}; {hint}"
    if error["type"] == "missing":
        return f"{mark}: {name} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{mark}: {name}: {message[:1].lower()}{message[1:]}, got {error['input']!r}"


def _keys(model: type[BaseModel], location: Location) -> Iterator[str]:
    """Return the keys that the section at `location` knows."""
    for part in location:
        if isinstance(part, int):
            continue
        annotation: Any = model.model_fields[part].annotation
        model = getattr(annotation, "__args__", (annotation,))[0]
    yield from model.model_fields
