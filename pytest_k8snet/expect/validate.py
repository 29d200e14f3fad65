"""Compare a profile's values with the schema, and say of each mistake where it is and what would be valid."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.expect.source import Draft, Location, Mark

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from pytest_k8snet.expect.schema import ProfileModel

_LONGEST = 200  # characters of what a message quotes

_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "string_type": "a word; write it in quotes",
    "dict_type": "a section with keys of its own",
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
    "list_type": "a list",
}


def validate(draft: Draft) -> tuple[ProfileModel | None, list[str]]:
    """Return the typed profile, or None and every mistake as ``file:line: what, and what would be valid``."""
    from pydantic import ValidationError

    from pytest_k8snet.expect.schema import ProfileModel

    try:
        return ProfileModel.model_validate(_without_empty_sections(draft.values, ProfileModel)), []
    except ValidationError as error:
        told = dict.fromkeys(_explain(draft, ProfileModel, item) for item in error.errors())
        return None, [*told]


def quoted(value: object) -> str:
    """Return a value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def did_you_mean(word: str, known: Sequence[str], *, cutoff: float = 0.5) -> str | None:
    """Return the one of `known` that `word` may have meant, in whatever case; None when it is like none of them."""
    lower = {name.lower(): name for name in reversed(known)}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=cutoff)
    return lower[close[0]] if close else None


def _without_empty_sections(values: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return the values without sections that have no content: ``mtu:`` is as good as none."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        section = _section(model, key)
        if value is None and (section is not None or key == "waivers" or key == "custom"):
            continue
        if value is None and key in model.model_fields and _is_mapping(model.model_fields[key].annotation):
            continue
        kept[key] = _without_empty_sections(value, section) if section is not None and isinstance(value, dict) else value
    return kept


def _explain(draft: Draft, model: type[BaseModel], error: ErrorDetails) -> str:
    from pytest_k8snet.expect.schema import PATTERNS

    location = tuple(part for part in error["loc"] if part != "[key]")
    mark = _mark(draft, location)
    name = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        keys = tuple(_keys(model, location[:-1]))
        close = did_you_mean(str(location[-1]), keys)
        hint = f"did you mean {close!r}?" if close else f"known here: {', '.join(keys)}"
        return f"{mark}: unknown key {quoted(name)}; {hint}"
    if error["type"] == "missing":
        return f"{mark}: {name} is missing"
    if error["type"] in ("string_too_short", "too_short") or error["input"] is None:
        return f"{mark}: {name} is empty"
    given = quoted(error["input"])
    if error["type"] == "literal_error":
        choices = [str(choice) for choice in _choices(model, location)]
        close = did_you_mean(str(error["input"]), choices)
        hint = f"; did you mean {close!r}?" if close else ""
        return f"{mark}: {name}: got {given}, want one of {', '.join(choices)}{hint}"
    if error["type"] in _KINDS:
        return f"{mark}: {name}: got {given}, want {_KINDS[error['type']]}"
    context = error.get("ctx") or {}
    if error["type"] in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        words = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}
        limit = " and ".join(f"{words[key]} {value}" for key, value in context.items() if key in words)
        return f"{mark}: {name}: got {given}, want {limit}"
    if error["type"] == "string_pattern_mismatch":
        return f"{mark}: {name}: got {given}, want {PATTERNS.get(context['pattern'], context['pattern'])}"
    message = str(context["error"]) if error["type"] == "value_error" else f"{error['msg'][:1].lower()}{error['msg'][1:]}"
    told = given in message or message.startswith(("got ", "YAML "))
    return f"{mark}: {name}: {message}" if told else f"{mark}: {name}: {message}, got {given}"


def _mark(draft: Draft, location: Location) -> Mark:
    known = location
    while known and known not in draft.marks:
        known = known[:-1]  # a missing key has no line: that of its section
    return draft.marks.get(known) or next(iter(draft.marks.values()))


def _section(model: type[BaseModel], key: str | int) -> type[BaseModel] | None:
    """Return the model of the section, or of the items of the list, that `key` names; None when it names a value."""
    from pydantic import BaseModel

    if key not in model.model_fields:
        return None
    annotation: Any = model.model_fields[str(key)].annotation
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _keys(model: type[BaseModel], location: Location) -> Iterator[str]:
    """Return the keys that the section at `location` knows."""
    for part in location:
        if isinstance(part, int):
            continue
        inner = _section(model, part)
        if inner is None:
            return
        model = inner
    yield from model.model_fields


def _choices(model: type[BaseModel], location: Location) -> Iterator[object]:
    """Return the words that the key at `location` may have as its value."""
    for part in location:
        if isinstance(part, int):
            continue
        inner = _section(model, part)
        if inner is not None:
            model = inner
        elif part in model.model_fields:
            yield from _literals(model.model_fields[part].annotation)


def _literals(annotation: Any) -> Iterator[object]:
    if typing.get_origin(annotation) is typing.Literal:
        yield from typing.get_args(annotation)
        return
    for inner in typing.get_args(annotation):
        yield from _literals(inner)


def _is_mapping(annotation: Any) -> bool:
    return (typing.get_origin(annotation) or annotation) is dict
