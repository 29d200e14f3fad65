"""Write profiles: YAML with a comment behind or above each value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_k8snet.expect.profile import Profile
from pytest_k8snet.expect.source import Location
from pytest_k8snet.shown import printable


def merged_text(profile: Profile) -> str:
    """Return what profiles add up to, with the place that each value is from. It is a profile that wants the same."""
    values = profile.model.model_dump(mode="json", exclude_unset=True, exclude={"extends"})

    def origin(at: Location) -> str | None:
        return profile.marks[at].origin if at in profile.marks and at not in (("name",), ("description",)) else None

    files = [file.path.name for chain in profile.chains for file in chain]
    head = f"# {', '.join(profile.names)}" + (f"; files, from the last word to the first: {', '.join(files)}" if len(files) > 1 else "")
    return "\n".join([printable(head), *_lines(values, (), origin)]) + "\n"


def scalar(value: Any) -> str:
    """Return a value that has no others in it, or a short list of such, as YAML on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _lines(values: Mapping[str, Any], at: Location, comment: Callable[[Location], str | None]) -> Iterator[str]:
    indent = "  " * len(at)
    for key, value in values.items():
        here = (*at, key)
        name = f"{indent}{scalar(key)}:"
        if isinstance(value, Mapping) and value and at[:1] != ("custom",):
            yield name
            yield from _lines(value, here, comment)
        elif key == "waivers" and value:
            yield name
            for index, item in enumerate(value):
                yield _commented(f"  - {scalar(item)}", comment((*here, index)))
        elif not (isinstance(value, Mapping | Sequence) and not isinstance(value, str) and not value):
            # A sysctl is text, and a number is read as that text.
            number = at[:2] == ("kernel", "sysctl") and isinstance(value, str) and value.isdecimal() and str(int(value)) == value
            yield _commented(f"{name} {value if number else scalar(value)}", comment(here))


def _commented(line: str, comment: str | None) -> str:
    return line if comment is None else f"{line}  # {printable(comment)}"
