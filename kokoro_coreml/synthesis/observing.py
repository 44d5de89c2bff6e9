"""Listening to the packages of a bundle while they speak."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kokoro_coreml.synthesis.speech import Backend, Part

Arrays = Mapping[str, np.ndarray]


class Observer:
    """Told what a bundle's packages take and give; subclass it, this one does nothing."""

    def ran(self, package: str, function: str, inputs: Arrays, outputs: Arrays) -> None:
        """A function has run, and nothing it gave was judged yet.

        Args:
            package: the file of its package, as the manifest has it.
            function: its name in the package.
            inputs: arrays by name, in the order of its inputs.
            outputs: the same of its outputs.
        """

    def said(self, part: Part) -> None:
        """A part of a text was said by the functions that ran since the last one.

        Among them are those that ran in vain, because the speech fitted no bucket.
        """


def observed(backend: Backend, observer: Observer, package: str, function: str) -> Backend:
    """What runs a function, and tells the observer."""

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        outputs = backend(inputs)
        observer.ran(package, function, inputs, outputs)
        return outputs

    return run
