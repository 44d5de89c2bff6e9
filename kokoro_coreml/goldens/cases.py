"""Cases of golden files, and the registry of the functions that have them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kokoro_coreml.errors import BundleError, KokoroError

SCHEMA = 1
"""Version of the format of the files and of their index."""


class GoldensError(BundleError):
    """Golden files cannot be written, or are not what their functions give."""

    title = "goldens"


@dataclass(frozen=True)
class Refusal:
    """The error a case must end in."""

    code: int
    """Exit code of the class, `errors.KokoroError.exit_code`."""
    title: str
    contains: tuple[str, ...]
    """What its message says; each stands in it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"code": self.code, "title": self.title, "contains": list(self.contains)}


@dataclass(frozen=True)
class Case:
    """One input of a function, and what the function makes of it."""

    id: str
    input: Mapping[str, Any]
    output: Mapping[str, Any] | None
    error: Refusal | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; either `output` or `error`."""
        made = {"error": self.error.to_dict()} if self.error else {"output": self.output}
        return {"id": self.id, "input": dict(self.input), **made}


def case(
    name: str,
    given: Mapping[str, Any],
    compute: Callable[[], Mapping[str, Any]],
    *,
    refused: Iterable[str] | None = (),
) -> Case:
    """Run a function and keep what it gives or raises.

    Args:
        name: of the case, once per file.
        given: its input as it is written.
        compute: calls the function; its result is written as it is.
        refused: what the error's message must say, where the input is one that must be refused;
            None where what the function does is right, whatever it is.

    Raises:
        GoldensError: the function accepts what must be refused, refuses what must be accepted, or
            says something else.
    """
    expected = tuple(refused or ())
    try:
        output = compute()
    except KokoroError as error:
        missing = [part for part in expected if part not in str(error)]
        if missing or (refused is not None and not expected):
            raise GoldensError(
                f"case '{name}': expected {missing or 'no error'}, found: {error}"
            ) from error
        return Case(name, given, None, Refusal(error.exit_code, error.title, expected))
    if expected:
        raise GoldensError(f"case '{name}': accepted, but expected an error with {expected}")
    return Case(name, given, output)


Generate = Callable[[], Iterable[Case]]


@dataclass(frozen=True)
class Function:
    """A portable function with its cases."""

    name: str
    tolerance: float
    """Largest absolute difference of a number of the output; 0 is bit for bit."""
    generate: Generate

    def cases(self) -> tuple[Case, ...]:
        """Every case, the same at every call.

        Raises:
            GoldensError: two have one name, or the function does not do what a case expects.
        """
        found = tuple(self.generate())
        names = [entry.id for entry in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise GoldensError(f"{self.name}: two cases are called '{twice[0]}'")
        return found


_FUNCTIONS: dict[str, Function] = {}


def golden(name: str, *, tolerance: float = 0.0) -> Callable[[Generate], Generate]:
    """Register the generator of a function's cases.

    Args:
        name: of the function and its file.
        tolerance: see `Function`.

    Raises:
        ValueError: the name is taken.
    """

    def register(generate: Generate) -> Generate:
        if name in _FUNCTIONS:
            raise ValueError(f"the golden function '{name}' is registered twice")
        _FUNCTIONS[name] = Function(name, tolerance, generate)
        return generate

    return register


def functions() -> tuple[Function, ...]:
    """Every registered function, by name."""
    return tuple(_FUNCTIONS[name] for name in sorted(_FUNCTIONS))


Draw = Callable[[random.Random, str], Case]
"""From random numbers and a name to a case."""

_DRAWS: dict[str, Draw] = {}


def drawn(name: str) -> Callable[[Draw], Draw]:
    """Register what makes a random case of the function `name`, which `golden` registers.

    Raises:
        ValueError: the function has one.
    """

    def register(draw: Draw) -> Draw:
        if name in _DRAWS:
            raise ValueError(f"random cases of '{name}' are registered twice")
        _DRAWS[name] = draw
        return draw

    return register


def random_functions(seed: int, count: int) -> tuple[Function, ...]:
    """Functions with `count` random cases each, by name.

    A case depends on the seed, its function and its number alone, so that more of them begin with
    the same.
    """

    def cases(name: str) -> Iterable[Case]:
        for number in range(count):
            rng = random.Random(f"kokoro-coreml goldens: {name} {seed} {number}")
            yield _DRAWS[name](rng, f"random-{number}")

    return tuple(
        Function(name, _FUNCTIONS[name].tolerance, functools.partial(cases, name))
        for name in sorted(_DRAWS)
    )
