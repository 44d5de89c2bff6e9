"""From a stage to a saved ML Program, with coremltools' wrong operators corrected."""

from kokoro_coreml.lowering.lower import lower, trace

__all__ = ["lower", "trace"]
