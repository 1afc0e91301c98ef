# SPDX-License-Identifier: Apache-2.0
"""The schema of a ``TrainingJob``'s spec, and the check of a spec against it before it is sent. Pure.

``trainingjob.schema.json`` is the ``spec`` of ``config/crd/bases/sagemaker.services.k8s.aws_trainingjobs.yaml`` of
aws-controllers-k8s/sagemaker-controller v1.9.1 (Apache-2.0), without its descriptions. It uses ``type``,
``properties``, ``items``, ``additionalProperties`` and ``required``, so that no library is needed to read it.

The API server of a cluster drops fields that its own schema does not know, without an error. :func:`dropped` finds
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob

Schema = Mapping[str, Any]

_WORDS = {
    "string": "a text",
    "integer": "an integer",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}
_LARGEST = 2**63


@cache
def spec_schema() -> Schema:
    """Return the schema of the spec."""
    read: Schema = json.loads((Path(__file__).parent / "trainingjob.schema.json").read_text(encoding="utf-8"))
    return read


def fitted(spec: Mapping[str, Any], what: str = "service_options") -> dict[str, Any]:
    """Check the types of a spec, and return it as the API wants them.

    Templates make texts of numbers, and hyperparameters are texts, so ``"2"`` becomes 2 where an integer belongs, and
    0.1 becomes ``"0.1"`` where a text does. Fields that the schema does not know are kept: the cluster's may be newer.

    :param what: Where the spec is from, for errors.
    :raises InvalidJob: naming the path of the first value that does not fit.
    """
    made = _fitted(spec, spec_schema(), "", what)
    assert isinstance(made, dict)  # noqa: S101 -- the schema of a spec is an object
    return made


def unknown(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of the fields that the schema does not know."""
    return tuple(_unknown(spec, spec_schema(), ""))


def missing(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the required fields that a spec does not have."""
    return tuple(name for name in spec_schema()["required"] if spec.get(name) in (None, "", {}))


def fields() -> tuple[str, ...]:
    """Return the paths of all fields, such as ``inputDataConfig[].dataSource.s3DataSource.s3URI``."""
    return tuple(_fields(spec_schema(), ""))


def dropped(sent: Any, stored: Any, path: str = "") -> tuple[str, ...]:
    """Return the paths of what was sent and is not in what the API server has made of it."""
    if isinstance(sent, Mapping):
        if not isinstance(stored, Mapping):
            return (path,)
        inner = ((_at(path, name), value, stored.get(name, _MISSING)) for name, value in sent.items())
    elif isinstance(sent, list):
        if not isinstance(stored, list) or len(stored) != len(sent):
            return (path,)
        inner = ((f"{path}[{i}]", value, stored[i]) for i, value in enumerate(sent))
    else:
        return ()
    found: list[str] = []
    for place, value, there in inner:
        found += [place] if there is _MISSING else dropped(value, there, place)
    return tuple(found)


def check_known(paths: tuple[str, ...]) -> None:
    """Refuse fields that the cluster does not know.

    :param paths: What :func:`dropped` has found.
    :raises InvalidJob: naming the first, and what may be meant.
    """
    if not paths:
        return
    path = paths[0]
    where = f"service_options: the TrainingJob of this cluster has no field spec.{path}"
    if re.sub(r"\[\d+\]", "[]", path) in fields():
        raise InvalidJob(
            f"{where}. Its CRD is older than the one of sagemaker-controller 1.9.1: have the controller updated, or "
            "leave the field out.",
            field="service_options",
        )
    raise InvalidJob(f"{where}{_advice(path)}", field="service_options")


_MISSING = object()


def _fitted(value: Any, schema: Schema, path: str, what: str) -> Any:
    kind = schema.get("type")
    if kind == "object" and isinstance(value, Mapping):
        return {str(name): _fitted_member(str(name), each, schema, path, what) for name, each in value.items()}
    if kind == "array" and isinstance(value, list | tuple):
        return [_fitted(each, schema["items"], f"{path}[{i}]", what) for i, each in enumerate(value)]
    made = _scalar(value, kind)
    if made is _MISSING:
        expected = _WORDS.get(str(kind), str(kind))
        raise InvalidJob(f"{what}: spec.{path} is {_shown(value)}; it must be {expected}.", field=what)
    return made


def _fitted_member(name: str, value: Any, schema: Schema, path: str, what: str) -> Any:
    inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    if not isinstance(inner, Mapping):
        return value
    return _fitted(value, inner, _at(path, name), what)


def _scalar(value: Any, kind: object) -> Any:
    """Return a value of this type, or :data:`_MISSING` where there is none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string":
        return value if isinstance(value, str) else str(value) if number else _MISSING
    if kind == "boolean":
        given = {"true": True, "false": False}.get(str(value).strip().lower()) if isinstance(value, str) else value
        return given if isinstance(given, bool) else _MISSING
    if kind == "integer":
        return _integer(value)
    return _MISSING


def _integer(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,19}(\.0+)?\s*", value):
        value = int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST else _MISSING


def _shown(value: object) -> str:
    return f"a {type(value).__name__}" if isinstance(value, str | list | tuple | Mapping) else repr(value)[:80]


def _unknown(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties")
        for name, each in value.items():
            if name in properties:
                yield from _unknown(each, properties[name], _at(path, name))
            elif more is None:
                yield _at(path, name)
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from _unknown(each, schema.get("items", {}), f"{path}[{i}]")


def _fields(schema: Schema, path: str) -> Iterator[str]:
    if path:
        yield path
    if "items" in schema:
        yield from (place for place in _fields(schema["items"], f"{path}[]") if place != f"{path}[]")
    for name, inner in schema.get("properties", {}).items():
        yield from _fields(inner, _at(path, name))


def _quoted(paths: Sequence[str]) -> str:
    return " or ".join(repr(path.rpartition(".")[0]) for path in paths)


def _at(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _advice(path: str) -> str:
    """Name the field that may be meant: the same in another spelling, as AWS's API has it, or a similar one."""
    above, _, name = re.sub(r"\[\d+\]", "[]", path).rpartition(".")
    begin = f"{above}." if above else ""
    beside = [each.removeprefix(begin) for each in fields() if each.startswith(begin)]
    beside = [each for each in beside if "." not in each]
    same = [each for each in beside if each.lower() == name.lower()]
    found = same or get_close_matches(name, beside, 1, 0.7)
    if found:
        return f"; {found[0]!r} may be meant, in ACK's spelling."
    if elsewhere := [each for each in fields() if each.rpartition(".")[2].lower() == name.lower()]:
        return f"; it may belong to {_quoted(elsewhere)}."
    return f". It may have {', '.join(beside)}." if beside else "."
