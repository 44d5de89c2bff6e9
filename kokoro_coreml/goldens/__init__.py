"""Golden files: seeded inputs of every portable function and what Python makes of them.

The Swift package is tested against them; `docs/goldens.md` says how to read them.
"""

from kokoro_coreml.goldens import (
    distances,
    frames,
    levels,
    manifests,
    signals,
    styles,
    texts,
    tokens,
    vocabularies,
)
from kokoro_coreml.goldens.cases import (
    Case,
    Function,
    GoldensError,
    functions,
    random_functions,
)
from kokoro_coreml.goldens.files import Drawing, generate, read_index, write_goldens

__all__ = [
    "Case",
    "Drawing",
    "Function",
    "GoldensError",
    "distances",
    "frames",
    "functions",
    "generate",
    "levels",
    "manifests",
    "random_functions",
    "read_index",
    "signals",
    "styles",
    "texts",
    "tokens",
    "vocabularies",
    "write_goldens",
]
