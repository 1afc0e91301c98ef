# SPDX-License-Identifier: Apache-2.0
"""Validate values with pydantic, and report the first error as one sentence: field, value, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.masking import without_credentials

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A frozen pydantic model without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def number_as_text(value: object) -> object:
    """Convert a number to text: users write ``completionTime: 10000`` and ``value: 50``."""
    try:
        return str(value) if isinstance(value, int | float) else value
    except ValueError:  # an integer of more than 4,300 digits
        return value


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("NUL")
    text.encode()
    return text


Text = Annotated[str, AfterValidator(_plain)]
"""A text without NUL and without half surrogate pairs, which JSON allows (``\\ud800``) and no service takes."""

NumberAsText = BeforeValidator(number_as_text)


def refuse_duplicates(field: str, names: Iterable[str]) -> None:
    """Refuse a name that occurs twice.

    :raises InvalidJob: naming the field and the name.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidJob(f"{field} has {name!r} twice; name it once.", field=field)
        seen.add(name)


def validated(model: type[Model], value: Mapping[str, Any] | Any, *, at: str = "", most: int = 1) -> Model:
    """Validate a value against a model.

    :param model: The model; the descriptions of its fields say what is allowed.
    :param value: The value as it came.
    :param at: The path of the value, put before the names of its fields.
    :param most: Fields that an error is about, at the most.
    :raises InvalidJob: with one sentence about each of the first fields that are wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = [_problem(each, model, at) for each in error.errors(include_url=False)[:most]]
        raise InvalidJob(" ".join(dict.fromkeys(map(str, found))), field=found[0].field) from None


def _problem(details: Mapping[str, Any], model: type[BaseModel], at: str) -> InvalidJob:
    location = details["loc"]
    path = _path((at, *location) if at else location) or "The job"
    if details["type"] == "extra_forbidden":
        known = ", ".join(_names(_owner(model, location[:-1])))
        return InvalidJob(f"{path} is not a known field; the known ones are {known}.", field=path)
    allowed = _description(model, location)
    if details["type"] == "missing":
        return InvalidJob(f"{path} is missing: it is {allowed}." if allowed else f"{path} is missing.", field=path)
    given = _shown(details["input"], path)
    rule = f"it is {allowed}" if allowed else details["msg"].lower()
    if details["type"] == "value_error" and (character := _unusable_character(details["input"])):
        rule = f"it has {character}; leave it out"
    return InvalidJob(f"{path} cannot be {given}: {rule}.", field=path)


def _unusable_character(value: object) -> str:
    """The first character that :data:`Text` does not allow; empty where there is none."""
    found = re.search(r"[\0\ud800-\udfff]", value) if isinstance(value, str) else None
    if found is None:
        return ""
    code, place = ord(found[0]), f"at character {found.start() + 1:,}"
    if not code:
        return f"a NUL {place}, which no service takes"
    if 0xDC80 <= code <= 0xDCFF:  # how Python reads what the system gives
        return f"the byte 0x{code - 0xDC00:x} {place}, which is not UTF-8"
    return f"half a surrogate pair, \\u{code:x}, {place}, which is not UTF-8"


_SECRET = re.compile(r"(^|\.)(env|env_vars|arguments)\b")
"""The fields whose values may be secrets."""


def _shown(value: object, path: str) -> str:
    if _SECRET.search(path) and not isinstance(value, int | float | None) and not path.endswith(".name"):
        return "this text" if isinstance(value, str) else f"this {type(value).__name__}"
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:  # an integer of more than 4,300 digits
        text = f"this {type(value).__name__}"
    text = without_credentials(text)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _names(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _owner(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        current = _inner(_annotation(current, part))
    return current


def _description(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    names = [part for part in location if isinstance(part, str)]
    for depth in range(len(names), 0, -1):
        owner = _owner(model, tuple(names[: depth - 1]))
        field = _field(owner, names[depth - 1])
        if field is not None and field.description:
            return str(field.description)
    return ""


def _field(model: type[BaseModel] | None, name: str) -> Any:
    for key, field in ({} if model is None else model.model_fields).items():
        if name in {key, field.alias}:
            return field
    return None


def _annotation(model: type[BaseModel], name: str) -> Any:
    field = _field(model, name)
    return None if field is None else field.annotation


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner(part))), None)
