"""Writes docs/placement.md and the JSON Schema: `python tests/placement/placement_docs.py`."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kokoro_coreml.placement import inspection_schema, load_rules  # noqa: E402
from kokoro_coreml.placement.documentation import render  # noqa: E402

PAGE = ROOT / "docs" / "placement.md"
SCHEMA = ROOT / "kokoro_coreml" / "data" / "placement.schema.json"


def page() -> str:
    return render(load_rules())


def schema() -> str:
    return json.dumps(inspection_schema(), indent=2) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
