"""From a stage to a saved ML Program."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import torch

from kokoro_coreml.errors import ConversionError
from kokoro_coreml.lowering.compress import Choose, add_compression
from kokoro_coreml.lowering.corrections import corrected
from kokoro_coreml.lowering.share import add_sharing
from kokoro_coreml.progress import Advance
from kokoro_coreml.recipe import Build
from kokoro_coreml.stages.types import Port, Stage

INEXACT_PASSES = ("common::divide_to_multiply",)
"""Passes of coremltools that change numbers: x / 24000 becomes x * float32(1 / 24000), which the
source accumulates into its phase (67 dB instead of 130)."""


_DTYPES = {"float32": np.float32, "float16": np.float16, "int32": np.int32}


def lower(
    traced: torch.jit.ScriptModule,
    stage: Stage,
    target: Build,
    path: Path,
    *,
    choose: Choose | None = None,
    advance: Advance = lambda _units: None,
) -> None:
    """Lower a traced stage to an ML Program and save it.

    Args:
        traced: from `trace`.
        stage: what was traced; gives names, types and shapes of inputs and outputs.
        target: deployment target, precision and compute units.
        path: the `.mlpackage` to write.
        choose: how each large weight is stored; None leaves them as they are.
        advance: called with 1 for every operator lowered and every pass run.

    Raises:
        ConversionError: an operator cannot be lowered, or the target is unknown.
    """
    with corrected(), _shown(advance):
        try:
            model = ct.convert(
                traced,
                convert_to="mlprogram",
                inputs=[_tensor_type(port, shaped=True) for port in stage.inputs],
                outputs=[_tensor_type(port, shaped=False) for port in stage.outputs],
                minimum_deployment_target=_choose(ct.target, target.minimum_deployment_target),
                compute_precision=_choose(ct.precision, target.precision.upper()),
                compute_units=_choose(ct.ComputeUnit, target.compute_units),
                pass_pipeline=_pipeline(choose),
                skip_model_load=True,
            )
        except (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError) as error:
            raise ConversionError(f"{stage}: lowering failed: {error}") from error
        _describe(model, stage)
        model.save(str(path))


def _pipeline(choose: Choose | None) -> Any:
    pipeline = ct.PassPipeline.DEFAULT
    pipeline.remove_passes(INEXACT_PASSES)
    if choose is not None:
        add_compression(pipeline, choose)
    add_sharing(pipeline)
    return pipeline


def _tensor_type(port: Port, *, shaped: bool) -> Any:
    dtype = _DTYPES[port.dtype]
    if shaped:
        return ct.TensorType(name=port.name, shape=port.shape, dtype=dtype)
    return ct.TensorType(name=port.name, dtype=dtype)


def _describe(model: Any, stage: Stage) -> None:
    sizes = {"tokens": stage.tokens, "frames": stage.frames}
    shape = ", ".join(f"{size} {axis}" for axis, size in sizes.items() if size is not None)
    model.short_description = f"{stage.name}: {shape}"
    for port in stage.inputs:
        model.input_description[port.name] = port.description
    for port in stage.outputs:
        model.output_description[port.name] = port.description


def _choose(enumeration: Any, name: str) -> Any:
    try:
        return enumeration[name]
    except KeyError as error:
        known = ", ".join(member.name for member in enumeration)
        raise ConversionError(f"unknown target {name!r}; known: {known}") from error


@contextmanager
def _shown(advance: Advance) -> Iterator[None]:
    """Turn coremltools' progress bars into `advance`, and silence its version warnings."""
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.mil.passes import pass_pipeline

    def counted(items: Iterable[Any], **_: Any) -> Iterator[Any]:
        for item in items:
            yield item
            advance(1)

    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), _swapped(ops, "_tqdm", counted):
            warnings.simplefilter("ignore")
            with _swapped(pass_pipeline, "tqdm", counted):
                yield
    finally:
        logger.setLevel(level)


@contextmanager
def _swapped(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
