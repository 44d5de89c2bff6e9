"""Calling one entry of the operator table with numpy values, as a package would bind them."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kokoro_coreml.executor import OPS
from kokoro_coreml.executor.limits import require_room

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)

EIGHTHS = np.arange(-32, 33, dtype=np.float32) / 8
"""Few bits, so that sums of products are exact in any order."""


def arrays(shape, elements=None, dtype=np.float32):
    """Arrays whose elements differ: eighths by a drawn seed, or each one drawn."""
    if elements is None:
        seeds = st.integers(0, 2**32 - 1)
        return seeds.map(lambda seed: np.random.default_rng(seed).choice(EIGHTHS, shape))
    return hnp.arrays(dtype, shape, elements=elements, fill=st.nothing())


def shapes(low=1, high=4, largest=5, smallest=1):
    return hnp.array_shapes(min_dims=low, max_dims=high, min_side=smallest, max_side=largest)


def tensor(value):
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, int):
        return torch.tensor(value, dtype=torch.int32)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float32)
    array = np.asarray(value)
    if array.dtype in (np.int64, np.float64):  # lists of whole numbers, the empty one included
        array = array.astype(np.int32)
    return torch.from_numpy(np.array(array))


def apply(name, *, opset=18, **arguments):
    """The result of an operation as numpy arrays; None leaves a parameter unbound."""
    definition = OPS[name]
    bound = {}
    for key, value in arguments.items():
        parameter = definition.parameters[key]
        if value is None:
            continue
        if parameter.variadic:
            bound[key] = parameter.convert(tuple(tensor(v) for v in value))
        else:
            bound[key] = parameter.convert(value if isinstance(value, str) else tensor(value))
    if definition.opset_parameter is not None:
        bound[definition.opset_parameter] = opset
    with torch.inference_mode():
        result = definition.function(**bound)
    results = result if isinstance(result, tuple) else (result,)
    require_room(name, bound, sum(r.numel() for r in results))  # never refuses what is right
    found = tuple(r.contiguous().numpy() for r in results)
    return found if isinstance(result, tuple) else found[0]


def same(found, expected, tolerance=0.0):
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
