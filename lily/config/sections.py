"""Typed sections of a configuration: strict types, unknown keys refused, errors as one sentence.

A section is a frozen dataclass that pydantic validates. Values are read in pydantic's JSON mode,
where a list is a tuple, a whole number is a float, and nothing else is converted: ``"4"`` is not 4.
"""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform  # typing has it from Python 3.11 on

from lily.errors import ConfigError

T = TypeVar("T")
Count = Annotated[int, Field(gt=0)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]
Amount = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


@dataclass_transform(frozen_default=True)
def section(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose values are validated."""
    return dataclass(cls, frozen=True, config=_STRICT)


def build(kind: type[T], values: object, where: str, ignored: Collection[str] = ()) -> T:
    """Make a section from a mapping without its ``ignored`` keys.

    Raises ConfigError that names the key below ``where``, the value, and what is allowed.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {type(values).__name__}.")
    values = {key: value for key, value in values.items() if key not in ignored}
    try:
        text = json.dumps(values, default=repr)
    except (TypeError, ValueError, RecursionError) as error:  # a key that is a list, a loop
        raise ConfigError(f"{where} cannot be read: {error}.") from error
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise ConfigError(_sentence(error, kind, where)) from error


def refuse_unknown(key: object, known: Iterable[str], where: str) -> None:
    """Raise ConfigError with the nearest known key unless ``key`` is known."""
    known = list(known)
    if key not in known:
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        raise ConfigError(f"{where}: unknown key {key!r}; {hint}")


def _sentence(error: ValidationError, kind: type, where: str) -> str:
    """The first problem; an unknown key comes first, as it explains a missing one."""
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] in _UNKNOWN), problems[0])
    *path, last = map(str, first["loc"]) if first["loc"] else ("",)
    place = ".".join([where, *path])
    if first["type"] in _UNKNOWN:
        try:
            refuse_unknown(last, _fields_at(kind, path), place)
        except ConfigError as unknown:
            return str(unknown)
    if first["type"] == "missing":
        return f"{place}: missing {last}."
    if first["type"] == "value_error":  # raised by a section's own check
        return f"{'.'.join(filter(None, [place, last]))}: {first['ctx']['error']}"
    should = first["msg"].removeprefix("Input ").removesuffix(".")
    should = should.replace("valid integer", "whole number").replace("valid number", "number")
    return f"{'.'.join(filter(None, [place, last]))} is {first['input']!r}; it {should}."


def _fields_at(kind: Any, path: Iterable[str]) -> list[str]:
    """The keys of the section that is found along ``path`` below ``kind``."""
    for name in path:
        kind = typing.get_type_hints(kind)[name]
    return list(typing.get_type_hints(kind))
