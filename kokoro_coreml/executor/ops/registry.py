"""The operator table: which MIL operations can be run, with their parameters and defaults.

An operation is a function whose parameters carry MIL's names and defaults, and whose annotations
say what each argument must be turned into before the call:

    Tensor     a torch tensor           Tensors  a tuple of them (variadic parameters)
    int, float, bool, str               a scalar constant, or a tensor of one element at run time
    Ints, Bools                         a tuple, from a tensor of rank 0 or 1
    Annotated[Tensor, f]                `f(tensor)`; for a constant computed once, at load
    Value, Values                       whatever is bound: a tensor, a string, a list or a state
    Opset                               not an argument: the function's opset as an iOS version
    Blocks                              not an argument: the operation's nested blocks, as functions

So a signature *is* the table entry. Constants are converted once per program, when it is loaded.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, NewType, TypeVar, Union

import torch
from torch import Tensor

Ints = tuple[int, ...]
Bools = tuple[bool, ...]
Tensors = tuple[Tensor, ...]
Value = NewType("Value", object)
Values = tuple[Value, ...]
Opset = NewType("Opset", int)
Block = Callable[[tuple[Any, ...]], tuple[Any, ...]]
"""Runs one nested block: values of its inputs in, values of its outputs out."""
Blocks = NewType("Blocks", tuple[Block, ...])
Result = Any
"""A value, or a tuple with one value per result."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operation.

    Attributes:
        name: MIL's name.
        required: whether a package must bind it.
        default: used when it does not.
        variadic: whether it takes a tuple of values.
        convert: turns the bound value (a tuple of values if variadic) into the argument.
    """

    name: str
    required: bool
    default: Any
    variadic: bool
    convert: Callable[[Any], Any] = field(compare=False)


@dataclass(frozen=True)
class OpDefinition:
    """One entry of the operator table."""

    name: str
    family: str
    function: Callable[..., Result] = field(compare=False)
    parameters: Mapping[str, Parameter]
    opset_parameter: str | None
    blocks_parameter: str | None = None

    @property
    def doc(self) -> str:
        """The operation's documentation."""
        return inspect.getdoc(self.function) or ""


OPS: dict[str, OpDefinition] = {}
"""All operations that can be run, by MIL's name."""

_RANDOM = "random results cannot be reproduced; pass noise as an input or a constant"

_CLASSIFY = "its results are a label and a dictionary of strings; return the probabilities instead"

REFUSED: dict[str, str] = {
    "classify": _CLASSIFY,
    "random_bernoulli": _RANDOM,
    "random_categorical": _RANDOM,
    "random_normal": _RANDOM,
    "random_uniform": _RANDOM,
}
"""Operations that will never be run, with the reason."""


def op(*names: str) -> Callable[[F], F]:
    """Register a function as the operation(s) `names`.

    Raises:
        ValueError: a name is registered already, or an annotation is not one of the module's kinds.
    """

    def register(function: F) -> F:
        parameters, injected = _parameters(function)
        opset, blocks = injected.get(Opset), injected.get(Blocks)
        for name in names:
            add(OpDefinition(name, _family(function), function, parameters, opset, blocks))
        return function

    return register


def add(definition: OpDefinition) -> None:
    """Enter one definition; ValueError if its name is taken."""
    if definition.name in OPS or definition.name in REFUSED:
        raise ValueError(f"operation {definition.name!r} is registered twice")
    OPS[definition.name] = definition


def table(
    family: str, names: str, functions: Mapping[str, tuple[Callable[..., Result], str]]
) -> None:
    """Register functions that take tensors only.

    Args:
        family: of all entries.
        names: MIL's parameter names in the functions' order, such as "x, y".
        functions: with what they compute, by operation.
    """
    keys = names.split(", ")
    parameters = {key: Parameter(key, True, None, False, _tensor) for key in keys}
    for name, (function, doc) in functions.items():
        add(OpDefinition(name, family, _by_keyword(function, keys, doc), parameters, None))


def _by_keyword(
    function: Callable[..., Result], keys: list[str], doc: str
) -> Callable[..., Result]:
    def call(**arguments: Tensor) -> Result:
        return function(*(arguments[key] for key in keys))

    call.__doc__ = doc
    return call


def _family(function: Callable[..., Any]) -> str:
    return function.__module__.rsplit(".", 1)[-1]


def _parameters(
    function: Callable[..., Any],
) -> tuple[dict[str, Parameter], dict[Any, str]]:
    """MIL's parameters, and the names of those that the executor fills in, by their kind."""
    hints = typing.get_type_hints(function, include_extras=True)
    found: dict[str, Parameter] = {}
    injected: dict[Any, str] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if hints[name] in (Opset, Blocks):
            injected[hints[name]] = name
            continue
        required = parameter.default is inspect.Parameter.empty
        default = None if required else parameter.default
        convert = _converter(hints[name], f"{function.__name__}({name})")
        variadic = hints[name] in (Tensors, Values)
        found[name] = Parameter(name, required, default, variadic, convert)
    return found, injected


def _converter(hint: Any, where: str) -> Callable[[Any], Any]:
    if typing.get_origin(hint) in (Union, UnionType):
        (hint,) = [a for a in typing.get_args(hint) if a is not type(None)]
    if typing.get_origin(hint) is Annotated:
        custom = typing.get_args(hint)[1]
        return lambda value: custom(_tensor(value))
    for kind, convert in _CONVERTERS:
        if hint == kind:
            return convert
    raise ValueError(f"{where}: {hint} is not a kind of parameter")


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"a tensor is expected, found {type(value).__name__}")
    return value


def _tensors(value: Any) -> Tensors:
    return tuple(_tensor(v) for v in value)


def _unchanged(value: Any) -> Any:
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string is expected, found {type(value).__name__}")
    return value


def _scalar(value: Any) -> Any:
    return _tensor(value).item()


def _int(value: Any) -> int:
    number = _scalar(value)
    if isinstance(number, float):
        raise TypeError(f"a whole number is expected, found {number}")
    return int(number)


def _float(value: Any) -> float:
    return float(_scalar(value))


def _bool(value: Any) -> bool:
    return bool(_scalar(value))


_MAX_LIST = 2**16
"""Numbers in one list parameter; axes, sizes and the like. A weight in its place is a mistake."""


def _ints(value: Any) -> Ints:
    tensor = _tensor(value)
    if tensor.ndim > 1 or tensor.dtype.is_floating_point or tensor.numel() > _MAX_LIST:
        raise TypeError(f"a list of whole numbers is expected, found {_kind(tensor)}")
    return tuple(int(v) for v in tensor.reshape(-1).tolist())


def _bools(value: Any) -> Bools:
    tensor = _tensor(value)
    if tensor.ndim > 1 or tensor.dtype != torch.bool or tensor.numel() > _MAX_LIST:
        raise TypeError(f"a list of booleans is expected, found {_kind(tensor)}")
    return tuple(bool(v) for v in tensor.reshape(-1).tolist())


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


_CONVERTERS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Tensor, _tensor),
    (Tensors, _tensors),
    (Value, _unchanged),
    (Values, _unchanged),
    (Ints, _ints),
    (Bools, _bools),
    (str, _string),
    (int, _int),
    (float, _float),
    (bool, _bool),
)
