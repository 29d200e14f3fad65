"""Read profiles: YAML files that say what a cluster's network is meant to be. Every value keeps the file and line it came from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import ConfigurationError, RecordError
from pytest_k8snet.record.schema import check_schema

if TYPE_CHECKING:
    import yaml
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from pytest_k8snet.expect.schema import ProfileModel

SHIPPED = Path(__file__).parent / "profiles"
SCHEMA = 1  # of the record that `Profile.to_json` makes

_LARGEST = 1 << 20  # bytes
_MOST_ERRORS = 20
_LONGEST = 200  # characters of what a message quotes
_MOST_VALUES = 100_000  # aliases within aliases can stand for more than fits into memory

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


#: A profile, what it extends, and so on.
Chain = tuple[ProfileFile, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """One or more profiles merged: what is wanted, where each value comes from, and the texts that say so."""

    model: ProfileModel
    marks: Mapping[Location, Mark]
    names: tuple[str, ...]
    chains: tuple[Chain, ...]  # one for each name

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
    return _merged(names, [_read(_find(name, base=Path(), asked_by="--k8snet-profile")) for name in names])


def profile_to_json(profile: Profile | None) -> dict[str, Any]:
    """Return what a record keeps of the profiles of its run: texts and names, and nothing of the disk that they came from."""
    named = [] if profile is None else zip(profile.names, profile.chains, strict=True)
    return {
        "schema": SCHEMA,
        "profiles": [{"name": name, "files": [{"name": file.path.name, "text": file.text} for file in chain]} for name, chain in named],
    }


def profile_from_json(data: Any, *, where: str) -> Profile | None:
    """Read what `profile_to_json` gave: the same values from the same origins, None when there was no profile.

    Raises `RecordError` that begins with `where` when it is none, or not valid for this version.
    """
    given = check_schema(data, SCHEMA, where=where, writer=None)
    try:
        names = [str(item["name"]) for item in given["profiles"]]
        chains = [tuple(ProfileFile(Path(file["name"]), str(file["text"])) for file in item["files"]) for item in given["profiles"]]
        return _merged(names, [[(file, _parse(file)) for file in chain] for chain in chains]) if names else None
    except (KeyError, TypeError) as error:
        raise RecordError(f"{where}: damaged: {error!r}") from error
    except ConfigurationError as error:
        raise RecordError(f"{where}: {error}") from error


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
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise ConfigurationError(f"{asked_by}: profile {name!r} is a directory; name the file in it")
    except OSError as error:
        raise ConfigurationError(f"{asked_by}: profile {_quoted(name)}: {error.strerror}") from error
    close = difflib.get_close_matches(name, shipped, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigurationError(
        f"{asked_by}: no profile {_quoted(name)}: it is neither a file nor one of the shipped profiles ({', '.join(shipped)}){hint}"
    )


def _read(path: Path) -> list[tuple[ProfileFile, _Draft]]:
    """Read a file and, behind it, what it extends."""
    read: list[tuple[ProfileFile, _Draft]] = []
    extending: list[Path] = []
    while True:
        if path.resolve() in extending:
            chain = " -> ".join(item.name for item in (*extending, path.resolve()))
            raise ConfigurationError(f"{path}: profiles extend each other in a circle: {chain}")
        extending.append(path.resolve())
        file = ProfileFile(path, _read_text(path))
        draft = _parse(file)
        read.append((file, draft))
        extended = _validate(draft).extends
        if extended is None:
            return read
        path = _find(extended, base=path.parent, asked_by=str(draft.marks[("extends",)]))


def _merged(names: Sequence[str], profiles: Sequence[Sequence[tuple[ProfileFile, _Draft]]]) -> Profile:
    draft = _Draft()
    for profile in profiles:
        for _, own in reversed(profile):
            draft.merge(own)
    chains = tuple(tuple(file for file, _ in profile) for profile in profiles)
    return Profile(model=_validate(draft), marks=draft.marks, names=tuple(names), chains=chains)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigurationError(f"{path}: more than {_LARGEST >> 20} MiB; that is no profile")
        return data.decode()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text: byte {error.start}") from error


def _parse(file: ProfileFile) -> _Draft:
    import yaml

    path = file.path
    draft = _Draft()
    try:
        root = yaml.compose(file.text, Loader=yaml.SafeLoader)
        if root is None:
            return draft
        if not isinstance(root, yaml.MappingNode):
            raise ConfigurationError(f"{Mark(path, root.start_mark.line + 1)}: a profile is a mapping of keys to values")
        draft.values = _construct(root, path, (), draft.marks, ())
    except yaml.reader.ReaderError as error:
        line = Mark(path, file.text.count("\n", 0, error.position) + 1)
        raise ConfigurationError(f"{line}: not valid YAML: character #x{error.character:02x} is not allowed") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = path if mark is None else Mark(path, mark.line + 1)
        raise ConfigurationError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: nested too deeply for a profile") from error
    return draft


def _construct(node: yaml.Node, path: Path, at: Location, marks: dict[Location, Mark], above: tuple[yaml.Node, ...]) -> Any:
    import yaml

    mark = Mark(path, node.start_mark.line + 1)
    if node in above:
        raise ConfigurationError(f"{mark}: an alias within what it stands for")
    if len(marks) > _MOST_VALUES:
        raise ConfigurationError(f"{mark}: more than {_MOST_VALUES} values, aliases taken apart")
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
        errors = error.errors()
        lines = [_explain(draft, ProfileModel, item) for item in errors[:_MOST_ERRORS]]
        lines += [f"and {len(errors) - _MOST_ERRORS} more"] * (len(errors) > _MOST_ERRORS)
        raise ConfigurationError("\n".join(lines)) from error


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
    return f"{mark}: {name}: {message[:1].lower()}{message[1:]}, got {_quoted(error['input'])}"


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _keys(model: type[BaseModel], location: Location) -> Iterator[str]:
    """Return the keys that the section at `location` knows."""
    for part in location:
        if isinstance(part, int):
            continue
        annotation: Any = model.model_fields[part].annotation
        model = getattr(annotation, "__args__", (annotation,))[0]
    yield from model.model_fields
