"""Weight compression: numbers, sizes, measured sensitivity, and the choice within a budget.

How compressed weights get into a package is `kokoro_coreml.lowering.compress`; what they do to the
network is measured by `compression.sensitivity`, which needs PyTorch.
"""

from kokoro_coreml.compression.exact import EXACT_DB, exact_scheme
from kokoro_coreml.compression.naming import fingerprint, named_by
from kokoro_coreml.compression.plan import Candidate, allocate
from kokoro_coreml.compression.quantise import (
    Compressed,
    Linear,
    Palette,
    dequantise,
    quantise,
    relative_error_db,
)
from kokoro_coreml.compression.scheme import Opset, Scheme, bytes_of

__all__ = [
    "EXACT_DB",
    "Candidate",
    "Compressed",
    "Linear",
    "Opset",
    "Palette",
    "Scheme",
    "allocate",
    "bytes_of",
    "dequantise",
    "exact_scheme",
    "fingerprint",
    "named_by",
    "quantise",
    "relative_error_db",
]
