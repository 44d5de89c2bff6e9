"""From a stage to a saved ML Program, with coremltools' wrong operators corrected."""

from kokoro_coreml.lowering.lower import lower
from kokoro_coreml.lowering.tracing import trace

__all__ = ["lower", "trace"]
