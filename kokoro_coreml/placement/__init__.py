"""Where a saved package's operations will run, and what in it is unsafe, without a Mac.

Rules and their public sources are data (`data/placement_rules.toml`). A prediction that no source
supports is `unknown`.

    inspection = inspect(Path("Model.mlpackage"), Options(compute_units="CPU_AND_NE"))
    for finding in severe_findings(Path("Model.mlpackage"), compute_units="CPU_AND_NE"):
        print(finding)
"""

from kokoro_coreml.placement.inspection import Question, inspect_package, severe_findings
from kokoro_coreml.placement.results import (
    Agreement,
    Finding,
    FunctionInspection,
    Inspection,
    PackageInspection,
    PlacedOperation,
    Summary,
    inspection_schema,
)
from kokoro_coreml.placement.rules import Rule, Rules, load_rules
from kokoro_coreml.placement.targets import Options, inspect, targets

__all__ = [
    "Agreement",
    "Finding",
    "FunctionInspection",
    "Inspection",
    "Options",
    "PackageInspection",
    "PlacedOperation",
    "Question",
    "Rule",
    "Rules",
    "Summary",
    "inspect",
    "inspect_package",
    "inspection_schema",
    "load_rules",
    "severe_findings",
    "targets",
]
