"""Writes docs/operators.md: `python tests/executor/operator_docs.py`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry  # noqa: E402
from mil_packages import TARGETS  # noqa: E402
from proofs import collect  # noqa: E402

from kokoro_coreml.executor.documentation import render  # noqa: E402

PAGE = ROOT / "docs" / "operators.md"


def since() -> dict[str, int]:
    """First iOS version, from 15 on, whose operation set has each operation."""
    return {
        name: min(ios for ios, target in TARGETS.items() if target in versions)
        for name, versions in SSAOpRegistry.core_ops.items()
    }


def page() -> str:
    return render(collect(), since())


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
