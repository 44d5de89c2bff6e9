"""Tables of size against quality: every way to store the weights, converted, executed, measured."""

from kokoro_coreml.sizes.request import SizesRequest
from kokoro_coreml.sizes.results import SizeReport, load_sizes, sizes_schema
from kokoro_coreml.sizes.run import failures, sizes
from kokoro_coreml.sizes.text import markdown, render

__all__ = [
    "SizeReport",
    "SizesRequest",
    "failures",
    "load_sizes",
    "markdown",
    "render",
    "sizes",
    "sizes_schema",
]
