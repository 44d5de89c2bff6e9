"""Strict reading of TOML and JSON tables into frozen dataclasses, and back.

The dataclass is the schema: field types say what a table may hold, `Limits` what its values may be.
Unknown keys, missing keys, wrong types and values out of range are errors that name the place, the
value found and, for a key, the nearest known one. `recipe` and `manifest` are read this way.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from kokoro_coreml.errors import KokoroError

T = TypeVar("T")

_KINDS: Mapping[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


@dataclass(frozen=True)
class Limits:
    """What a value may be beyond its type; stands in `Annotated[type, Limits(...)]`."""

    minimum: float | None = None
    """Smallest number allowed; for strings, lists and tables the smallest length."""
    maximum: float | None = None
    """Largest number allowed; for strings, lists and tables the largest length."""
    pattern: str | None = None
    """Regular expression that the whole of a string must match."""
    meaning: str | None = None
    """What the pattern stands for, as a person would say it."""


@dataclass(frozen=True)
class _Place:
    """Where a value was found: a document, and the path of keys inside it."""

    document: str
    error: type[KokoroError]
    path: tuple[str | int, ...] = ()

    def __truediv__(self, key: str | int) -> _Place:
        return dataclasses.replace(self, path=(*self.path, key))

    def name(self) -> str:
        text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path)
        return text.lstrip(".")

    def fail(self, message: str) -> KokoroError:
        where = f"'{self.name()}' " if self.path else ""
        return self.error(f"{self.document}: {where}{message}")


def decode(cls: type[T], raw: object, *, document: str, error: type[KokoroError]) -> T:
    """Turn parsed TOML or JSON into the frozen dataclass `cls`.

    Args:
        cls: dataclass of str, int, float, bool, Literal, tuple[X, ...], Mapping[str, X], X | None
            and further dataclasses.
        raw: what the parser returned.
        document: name of the file, for messages.
        error: class of the exception raised.

    Raises:
        KokoroError: of the class `error`, naming the key, what was expected and what was found.
    """
    value: T = _value(cls, raw, _Place(document, error))
    return value


def encode(value: object) -> Any:
    """Turn a dataclass into plain JSON types: declared order for fields, sorted keys for tables."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(value[k]) for k in sorted(value)}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    return value


def json_schema(cls: type[Any]) -> dict[str, Any]:
    """JSON Schema of one dataclass, from the types and limits that `decode` enforces."""
    hints = get_type_hints(cls, include_extras=True)
    required = [f.name for f in dataclasses.fields(cls) if _is_required(f)]
    return {
        "type": "object",
        "description": (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "),
        "properties": {f.name: _schema(hints[f.name]) for f in dataclasses.fields(cls)},
        "required": required,
        "additionalProperties": False,
    }


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that offers the known name closest to `name`, or lists all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}"


def _value(kind: Any, raw: object, place: _Place) -> Any:
    limits, kind = _unwrap(kind)
    value = _typed(kind, raw, place)
    if limits is not None and value is not None:
        _check_limits(value, limits, place)
    return value


def _typed(kind: Any, raw: object, place: _Place) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return raw
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind, raw, place)
    if origin is Literal:
        return _choice(get_args(kind), raw, place)
    if origin in (Union, types.UnionType):
        inner = next(k for k in get_args(kind) if k is not type(None))
        return None if raw is None else _value(inner, raw, place)
    if origin is tuple:
        items = _expect(raw, list | tuple, "list", place)
        return tuple(_value(get_args(kind)[0], v, place / i) for i, v in enumerate(items))
    if origin is not None and issubclass(origin, Mapping):
        table = _expect(raw, Mapping, "table", place)
        key, item = get_args(kind)
        return {_value(key, k, place / k): _value(item, table[k], place / k) for k in table}
    return _scalar(kind, raw, place)


def _record(cls: type[Any], raw: object, place: _Place) -> Any:
    table = _expect(raw, Mapping, "table", place)
    declared = dataclasses.fields(cls)
    known = [f.name for f in declared]
    for key in table:
        if key not in known:
            inside = f"in table '{place.name()}'" if place.path else "at the top level"
            raise place.error(
                f"{place.document}: unknown key '{key}' {inside}; {nearest(str(key), known)}"
            )
    missing = [f.name for f in declared if _is_required(f) and f.name not in table]
    if missing:
        inside = f"table '{place.name()}'" if place.path else "the top level"
        raise place.error(f"{place.document}: {inside} lacks the key '{missing[0]}'")
    hints = get_type_hints(cls, include_extras=True)
    return cls(**{k: _value(hints[k], table[k], place / k) for k in known if k in table})


def _scalar(kind: type, raw: object, place: _Place) -> Any:
    if kind is float:
        number = _finite(_expect(raw, int | float, "number", place))
        if number is None:
            raise place.fail(f"must be a finite number, found {raw!r:.60}")
        return number
    return _expect(raw, kind, _KINDS[kind], place)


def _finite(number: float) -> float | None:
    """As a float; None where it is NaN or infinite, or an integer that no float is as large as."""
    try:
        converted = float(number)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def _expect(raw: object, kind: Any, name: str, place: _Place) -> Any:
    is_bool_for_number = isinstance(raw, bool) and kind is not bool
    if is_bool_for_number or not isinstance(raw, kind):
        raise place.fail(f"must be a {name}, found {raw!r:.60}".replace("a integer", "an integer"))
    return raw


def _choice(allowed: tuple[Any, ...], raw: object, place: _Place) -> object:
    for value in allowed:
        if type(raw) is type(value) and raw == value:
            return value
    names = ", ".join(repr(v) for v in allowed)
    raise place.fail(f"must be one of {names}; found {raw!r:.60}")


def _check_limits(value: Any, limits: Limits, place: _Place) -> None:
    sized = isinstance(value, str | tuple | Mapping)
    size = len(value) if sized else value
    what = "have a length" if sized else "be"
    if limits.minimum is not None and size < limits.minimum:
        raise place.fail(f"must {what} of at least {limits.minimum:g}, found {value!r:.60}")
    if limits.maximum is not None and size > limits.maximum:
        raise place.fail(f"must {what} of at most {limits.maximum:g}, found {value!r:.60}")
    if limits.pattern is not None and re.fullmatch(limits.pattern, value) is None:
        raise place.fail(f"must be {limits.meaning or limits.pattern}, found {value!r:.80}")


def _unwrap(kind: Any) -> tuple[Limits | None, Any]:
    if get_origin(kind) is Annotated:
        inner, *extras = get_args(kind)
        return next((e for e in extras if isinstance(e, Limits)), None), inner
    return None, kind


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _schema(kind: Any) -> dict[str, Any]:
    limits, kind = _unwrap(kind)
    schema = _schema_of_type(kind)
    if limits is None:
        return schema
    low, high = {
        "string": ("minLength", "maxLength"),
        "array": ("minItems", "maxItems"),
        "object": ("minProperties", "maxProperties"),
    }.get(schema.get("type", ""), ("minimum", "maximum"))
    pattern = None if limits.pattern is None else f"^(?:{limits.pattern})$"
    found = {low: _plain(limits.minimum), high: _plain(limits.maximum), "pattern": pattern}
    return schema | {k: v for k, v in found.items() if v is not None}


def _plain(bound: float | None) -> float | None:
    """A whole number as an integer.

    `typing` takes Limits(0) and Limits(0.0) for the same and keeps the one it met first, so what a
    schema said would depend on the order of imports.
    """
    return int(bound) if bound is not None and bound == int(bound) else bound


def _schema_of_type(kind: Any) -> dict[str, Any]:
    origin = get_origin(kind)
    if kind is Any:
        return {}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return json_schema(kind)
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin in (Union, types.UnionType):
        inner = next(k for k in get_args(kind) if k is not type(None))
        return {"anyOf": [_schema(inner), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _schema(get_args(kind)[0])}
    if origin is not None and issubclass(origin, Mapping):
        names, items = (_schema(k) for k in get_args(kind))
        limited = {} if names == {"type": "string"} else {"propertyNames": names}
        return {"type": "object", "additionalProperties": items} | limited
    return {"type": _KINDS[kind]}
