"""What each way to store a weight costs, in bytes and in measured error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.compression.exact import EXACT_DB, exact_scheme, scheme_of
from kokoro_coreml.compression.plan import Candidate
from kokoro_coreml.compression.probe import Departure, Probe
from kokoro_coreml.compression.quantise import Weight, dequantise, quantise
from kokoro_coreml.compression.scheme import Opset, Scheme
from kokoro_coreml.compression.survey import Stored
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import PIPELINE

SCHEMES = tuple(
    Scheme.parse(text)
    for text in (
        "int8",
        "palette8",
        "palette6/16",
        "palette6",
        "palette4/16",
        "palette4",
        "palette3/16",
        "palette3",
    )
)
"""Tried on every weight, beside none and the exact one."""

SAMPLED = 65_536
"""Elements that the energy of a quantisation error is estimated from."""


@dataclass
class Errors:
    """Candidates of every weight: measured where that was asked for, else estimated."""

    weights: Sequence[Stored]
    """Every place where a weight is stored."""
    probe: Probe
    copies: Mapping[str, int]
    """How many packages hold a stage's weights."""
    opset: Opset
    reporter: Reporter = SILENT
    _measured: dict[tuple[str, Scheme], float] = field(default_factory=dict)
    _noise: dict[tuple[str, Scheme], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._parameters = dict(self.probe.network.named_parameters(remove_duplicate=False))
        self._places: dict[str, list[Stored]] = {}
        for stored in self.weights:
            self._places.setdefault(stored.path, []).append(stored)
        self._exact = {path: self._lossless(places) for path, places in self._places.items()}
        self._axes = {path: self._axis(path) for path in self._places}
        self._tried = {path: self._fitting(path) for path in self._places}

    @property
    def paths(self) -> list[str]:
        """Of all large weights, sorted."""
        return sorted(self._places)

    def options(self, path: str) -> list[Scheme | None]:
        """Ways to store a weight: as it is, without loss, and with loss if that takes less.

        What is no parameter cannot be measured, so there is no choice: without loss if that can be.
        """
        if path not in self._parameters:
            return [self._exact[path]]
        exact = self._exact[path]
        return [None, *([] if exact is None else [exact]), *self.lossy(path)]

    def lossy(self, path: str) -> list[Scheme]:
        """Ways to store a weight that take less than those without loss."""
        least = min(self.size(path, None), self.size(path, self._exact[path]))
        return [scheme for scheme in self._tried[path] if self.size(path, scheme) < least]

    def size(self, path: str, scheme: Scheme | None) -> int:
        """Bytes of a weight, wherever it is stored."""
        return sum(p.size(scheme, self.opset) * self.copies[p.stage] for p in self._places[path])

    def is_parameter(self, path: str) -> bool:
        """Whether a recipe can name the weight; its lowered constant has another name if not."""
        return path in self._parameters

    def measure(self, wanted: Mapping[str, Scheme | None], title: str) -> bool:
        """Measure what was not measured yet; whether there was any."""
        missing = [
            (path, scheme)
            for path, scheme in sorted(wanted.items())
            if scheme in self.lossy(path) and (path, scheme) not in self._measured
        ]
        if not missing:
            return False
        with self.reporter.step(title, total=len(missing)) as advance:
            for path, scheme in missing:
                weights = {path: self.compressed(path, scheme)}
                energy = self.probe.departure(self._first([path]), weights).energy
                self._measured[path, scheme] = energy
                advance(1)
        return True

    def together(self, schemes: Mapping[str, Scheme | None]) -> Departure:
        """All weights compressed at once."""
        changed = {
            path: scheme
            for path, scheme in schemes.items()
            if scheme is not None and scheme != self._exact[path]
        }
        if not changed:
            return Departure(0.0, 0.0, 0.0)
        weights = {path: self.compressed(path, scheme) for path, scheme in changed.items()}
        return self.probe.departure(self._first(changed), weights)

    def compressed(self, path: str, scheme: Scheme) -> Tensor:
        """The parameter, compressed and back, float32."""
        back = dequantise(quantise(self._values(path), scheme, axis=self._axes[path] or 0))
        return torch.from_numpy(back.astype(np.float32))

    def candidates(self) -> dict[str, list[Candidate]]:
        """Of every weight, for `allocate`."""
        return {
            path: [
                Candidate(scheme, self.size(path, scheme), self._error(path, scheme))
                for scheme in self.options(path)
            ]
            for path in self.paths
        }

    def _error(self, path: str, scheme: Scheme | None) -> float:
        """Measured, or in proportion to the measured scheme whose own error is the nearest."""
        if scheme is None or scheme == self._exact[path]:
            return 0.0
        if (path, scheme) in self._measured:
            return self._measured[path, scheme]
        own = math.log(self._noise_of(path, scheme))
        known = [s for p, s in self._measured if p == path]
        nearest = min(known, key=lambda s: abs(math.log(self._noise_of(path, s)) - own))
        ratio = math.exp(own - math.log(self._noise_of(path, nearest)))
        return self._measured[path, nearest] * ratio

    def _noise_of(self, path: str, scheme: Scheme) -> float:
        key = (path, scheme)
        if key not in self._noise:
            self._noise[key] = noise(self._values(path), scheme, self._axes[path] or 0)
        return self._noise[key]

    def _lossless(self, places: Sequence[Stored]) -> Scheme | None:
        """One exact scheme for all places."""
        found = {exact_scheme(p.values, p.axis, self.opset) for p in places}
        return found.pop() if len(found) == 1 else None

    def _fitting(self, path: str) -> list[Scheme]:
        """Schemes that fit the weight wherever it is stored; none for what is no parameter."""
        if path not in self._parameters:
            return []
        whole = self._axes[path] is None
        return [
            scheme
            for scheme in SCHEMES
            if all(self._fits(place, scheme) for place in self._places[path])
            and not (whole and (scheme.kind == "int8" or scheme.group))
        ]

    def _fits(self, place: Stored, scheme: Scheme) -> bool:
        """Whether lowering would store it so; see `scheme_of`."""
        if place.obstacle(scheme, self.opset):
            return False
        return scheme_of(str(scheme), place.values, place.axis, self.opset) == scheme

    def _values(self, path: str) -> Weight:
        """The parameter in the lowest precision it is stored in."""
        lowest = min((p.values.dtype for p in self._places[path]), key=lambda d: d.itemsize)
        values: Weight = self._parameters[path].detach().numpy().astype(lowest)
        return values

    def _axis(self, path: str) -> int | None:
        if path not in self._parameters:
            return None
        return parameter_axis(self._places[path][0], self._values(path))

    def _first(self, paths: Iterable[str]) -> str:
        stages = [place.stage for path in paths for place in self._places[path]]
        return min(stages, key=PIPELINE.index)


def parameter_axis(stored: Stored, parameter: Weight) -> int | None:
    """Axis of the output channels in a parameter that is stored reshaped or transposed.

    Axes of length 1 do not count. None if the two are laid out in any other way.
    """
    own = [dim for dim in parameter.shape if dim != 1]
    theirs = [dim for dim in stored.values.shape if dim != 1]
    if stored.values.shape[stored.axis] == 1 or own not in (theirs, theirs[::-1]):
        return None
    place = sum(dim != 1 for dim in stored.values.shape[: stored.axis])
    turned = np.array_equal(stored.values.reshape(theirs), parameter.reshape(own).T)
    if own != theirs or turned:
        place = len(own) - 1 - place
    return int(np.flatnonzero(np.array(parameter.shape) != 1)[place])


def noise(values: Weight, scheme: Scheme, axis: int) -> float:
    """Mean energy of a weight's quantisation error, from some of its elements.

    At least what counts as exact, so that two of them have a ratio.

    Args:
        values: the weight.
        scheme: how it is compressed.
        axis: of its output channels.
    """
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    if scheme.kind == "palette" and scheme.group is None:
        flat = rows.reshape(-1)
        sample = flat[:: -(-flat.size // SAMPLED)][None]
    else:
        unit = scheme.group or 1
        groups = rows.reshape(-1, unit, rows.shape[1])
        sample = groups[:: -(-groups.size // SAMPLED)].reshape(-1, rows.shape[1])
    exact = sample.astype(np.float64)
    error = np.mean((dequantise(quantise(sample, scheme)).astype(np.float64) - exact) ** 2)
    least = 10.0 ** (EXACT_DB / 10.0) * np.mean(exact**2)
    return float(max(error, least, np.finfo(np.float64).tiny))
