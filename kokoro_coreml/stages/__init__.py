"""The pieces that become packages: typed inputs and outputs, shapes per bucket."""

from kokoro_coreml.stages.complete import complete_stage
from kokoro_coreml.stages.pipeline import pipeline_stage
from kokoro_coreml.stages.types import Port, Stage

__all__ = [
    "Port",
    "Stage",
    "complete_stage",
    "pipeline_stage",
]
