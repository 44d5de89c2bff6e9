"""The network with the weights that its packages hold.

A package with compressed weights is to equal the network with those very weights; how far they lead
away from upstream is another question, which the legs against upstream answer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.compression import Opset, dequantise, fingerprint, quantise
from kokoro_coreml.compression.exact import scheme_of
from kokoro_coreml.errors import ParityError
from kokoro_coreml.executor import Program
from kokoro_coreml.lowering.compress import THRESHOLD
from kokoro_coreml.manifest import PackageRecord
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.recipe import PIPELINE, TOKEN_STAGES, Compression
from kokoro_coreml.stages import pipeline_stage
from kokoro_coreml.synthesis.stages import PackagedStages


def stored_network(
    network: PipelineNetwork, compression: Compression | None, packaged: PackagedStages
) -> PipelineNetwork:
    """Copy a network, with every weight that a package compresses replaced by what is left of it.

    Which weights those are is read from the package; what is left of them is computed here from the
    network's own, so that a package with other values is found out.

    Args:
        network: with the original weights; returned as it is if nothing was to lose.
        compression: how the weights were stored.
        packaged: what was saved, to be run by `Program`s.

    Raises:
        ParityError: a package holds a compressed weight that no parameter becomes when it is
            compressed as it should be; all are named.
    """
    if compression is None or not compression.lossy:
        return network
    stored = copy.deepcopy(network)
    for name in PIPELINE:
        size = (packaged.tokens if name in TOKEN_STAGES else packaged.frames)[0]
        program = packaged.stage(name, size)
        assert isinstance(program, Program)
        package, _ = packaged.function(name, size)
        held = {id(p) for p in pipeline_stage(stored, name, size).module.parameters()}
        parameters = {path: p for path, p in stored.named_parameters() if id(p) in held}
        texts = {path: compression.text(name, path) for path in parameters}
        lost = _replace(parameters, texts, package, program)
        if lost:
            raise ParityError(
                f"{package.file} holds compressed weights that no parameter becomes when it is "
                f"stored as the recipe says: {', '.join(lost)}; convert again"
            )
    return stored


def _replace(
    parameters: Mapping[str, Tensor],
    texts: Mapping[str, str],
    package: PackageRecord,
    program: Program,
) -> list[str]:
    """Put in what the package holds; names of its weights that belong to no parameter."""
    expanded = {fingerprint(v): name for name, v in program.expanded_weights().items()}
    opset: Opset = "iOS17" if package.minimum_deployment_target == "iOS17" else "iOS18"
    found = set()
    for path, parameter in parameters.items():
        values = parameter.detach().numpy().astype(package.precision)
        for left in _compressed(texts[path], values, opset):
            key = fingerprint(left)
            if key in expanded:
                found.add(key)
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(left.astype(np.float32)))
                break
    return sorted(name for key, name in expanded.items() if key not in found)


def _compressed(text: str, values: np.ndarray, opset: Opset) -> Iterator[np.ndarray]:
    """What is left of a parameter, whose output channels are along either of its first axes."""
    if values.ndim < 2 or values.size <= THRESHOLD:
        return
    for axis in (0, 1):
        scheme = scheme_of(text, values, axis, opset)
        if scheme is not None:
            yield dequantise(quantise(values, scheme, axis=axis))
