"""Read profiles: YAML files that say what a cluster's network is meant to be. Every value keeps the file and line it came from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import ConfigurationError, RecordError
from pytest_k8snet.expect.source import Draft, Location, Mark, ProfileFile, parse, read_file
from pytest_k8snet.expect.validate import did_you_mean, quoted, validate
from pytest_k8snet.record.schema import check_schema

if TYPE_CHECKING:
    from pytest_k8snet.expect.schema import ProfileModel

SHIPPED = Path(__file__).parent / "profiles"
SCHEMA = 1  # of the record that `profile_to_json` makes

_MOST_ERRORS = 20
_MOST_FILES = 100  # that one profile may extend, directly and not

#: A profile, what it extends, and so on: what is laid over comes before what it is laid over.
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


def shipped_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def load_profiles(names: Sequence[str], *, asked_by: str = "--k8snet-profile") -> Profile:
    """Read profiles by name (of a shipped one) or path and merge them; later ones win.

    Raises `ConfigurationError` with file and line of each mistake when one is not a valid profile; `asked_by` is who gave the names.
    """
    problems: list[str] = []
    read = [_read(_find(name, base=Path(), asked_by=asked_by), problems) for name in names]
    _refuse(problems)
    return _merged(names, read)


def lint_profile(name: str, *, asked_by: str) -> tuple[Profile | None, list[str]]:
    """Return a profile and no mistake, or None and all mistakes of it and of what it extends."""
    problems: list[str] = []
    try:
        read = _read(_find(name, base=Path(), asked_by=asked_by), problems)
        return (None, problems) if problems else (_merged([name], [read]), [])
    except ConfigurationError as error:
        return None, [*problems, *str(error).splitlines()]


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
        return _merged(names, [[(file, parse(file)) for file in chain] for chain in chains]) if names else None
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
        raise ConfigurationError(f"{asked_by}: profile {quoted(name)}: {error.strerror}") from error
    close = did_you_mean(name, shipped, cutoff=0.6)
    hint = f"; did you mean {close!r}?" if close else ""
    raise ConfigurationError(
        f"{asked_by}: no profile {quoted(name)}: it is neither a file nor one of the shipped profiles ({', '.join(shipped)}){hint}"
    )


#: Files with what they say, in the order of a `Chain`.
_Read = list[tuple[ProfileFile, Draft]]


def _read(path: Path, problems: list[str]) -> _Read:
    """Read a file and, behind it, what it extends. What several of them extend is there once, below all of them.

    `problems` is given what is wrong with any of them.
    """
    read = _Extending(problems).read(path, ())
    found = {file.path.resolve(): (file, draft) for file, draft in read}
    order = list(dict.fromkeys(file.path.resolve() for file, _ in reversed(read)))
    return [found[path] for path in reversed(order)]


class _Extending:
    """Follows ``extends``; each file is read once."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems
        self._files: dict[Path, tuple[ProfileFile, Draft]] = {}

    def read(self, path: Path, above: tuple[Path, ...]) -> _Read:
        real = path.resolve()
        if real in above:
            chain = " -> ".join(item.name for item in (*above, real))
            raise ConfigurationError(f"{path}: profiles extend each other in a circle: {chain}")
        if real not in self._files:
            if len(self._files) >= _MOST_FILES:
                raise ConfigurationError(f"{path}: more than {_MOST_FILES} profiles extend each other")
            file = read_file(path)
            draft = parse(file)
            self._files[real] = file, draft
            self._problems += sorted([*draft.problems, *validate(draft)[1], *_unknown_checks(draft)], key=partial(_line, path))
        file, draft = self._files[real]
        read: _Read = [(file, draft)]
        for mark, name in reversed(_extended(draft)):
            try:
                read += self.read(_find(name, base=path.parent, asked_by=str(mark)), (*above, real))
            except ConfigurationError as error:
                if str(error) not in self._problems:
                    self._problems.append(str(error))
        return read


def _extended(draft: Draft) -> list[tuple[Mark, str]]:
    """Return what a file extends and where it says so; what is no name there is a mistake that validation tells."""
    given = draft.values.get("extends")
    if isinstance(given, str):
        return [(draft.marks[("extends",)], given)] if given else []
    names = enumerate(given if isinstance(given, list) else ())
    return [(draft.marks[("extends", index)], name) for index, name in names if isinstance(name, str) and name]


def _line(path: Path, problem: str) -> int:
    line = re.match(r":(\d+):", problem.removeprefix(str(path)))
    return int(line[1]) if line else 0


def _unknown_checks(draft: Draft) -> list[str]:
    if not draft.values.get("waivers"):
        return []
    from pytest_k8snet.expect.waivers import unknown_checks

    return unknown_checks(draft)


def _merged(names: Sequence[str], profiles: Sequence[_Read]) -> Profile:
    draft = Draft()
    merged: set[ProfileFile] = set()
    for profile in profiles:
        for file, own in reversed(profile):
            _refuse(own.problems)
            draft.merge(own, waivers=file not in merged)
            merged.add(file)
    chains = tuple(tuple(file for file, _ in profile) for profile in profiles)
    return Profile(model=_validated(draft), marks=draft.marks, names=tuple(names), chains=chains)


def _validated(draft: Draft) -> ProfileModel:
    _refuse(draft.problems)
    model, problems = validate(draft)
    _refuse(problems)
    assert model is not None
    return model


def _refuse(problems: Sequence[str]) -> None:
    """Raise `ConfigurationError` that names the problems, unless there are none."""
    if problems:
        more = [f"and {len(problems) - _MOST_ERRORS} more"] * (len(problems) > _MOST_ERRORS)
        raise ConfigurationError("\n".join([*problems[:_MOST_ERRORS], *more]))
