"""Control flow, lists and states, with the MIL builder."""

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from mil_packages import convert, floats, run
from proofs import FROM_TORCH, NUMPY, TORCH, converted_from, proves
from torch import nn

from kokoro_coreml.executor import Program


@proves("cond", against=NUMPY, over="either branch, two results")
@pytest.mark.parametrize("sign", [-1, 1])
def test_branch(sign):
    x, flag = floats(2, 3), np.array([sign], np.float32)

    def body(x, flag):
        return mb.cond(
            pred=mb.greater(x=mb.squeeze(x=flag), y=0.0),
            _true_fn=lambda: (mb.add(x=x, y=1.0), mb.mul(x=x, y=2.0)),
            _false_fn=lambda: (mb.sub(x=x, y=1.0), mb.mul(x=x, y=3.0)),
        )

    expected = (x + 1, x * 2) if sign > 0 else (x - 1, x * 3)
    for found, numbers in zip(run(body, x, flag, ops=["cond"]), expected, strict=True):
        np.testing.assert_allclose(found, numbers, rtol=1e-6)


@proves("while_loop", against=NUMPY, over="no round, several rounds, two variables")
@pytest.mark.parametrize("rounds", [0, 5])
def test_loop(rounds):
    x, n = floats(2, 3), np.array([rounds], np.int32)

    def body(x, n):
        count, value = mb.while_loop(
            _cond=lambda i, y: mb.less(x=i, y=mb.squeeze(x=n)),
            _body=lambda i, y: (mb.add(x=i, y=1), mb.mul(x=y, y=1.5)),
            loop_vars=(np.int32(0), x),
        )
        return mb.expand_dims(x=count, axes=[0]), value

    count, value = run(body, x, n, ops=["while_loop"])
    assert count.tolist() == [rounds]
    np.testing.assert_allclose(value, x * 1.5**rounds, rtol=1e-6)


@proves(
    "make_list",
    "list_write",
    "list_read",
    "list_gather",
    "list_scatter",
    "list_length",
    against=NUMPY,
    over="writing past the end, rows in any order",
)
def test_list():
    x, i = floats(3, 4), np.array([1, 3, 0], np.int32)

    def body(x, i):
        first = mb.slice_by_index(x=x, begin=[0, 0], end=[1, 4], squeeze_mask=[True, False])
        ls = mb.make_list(init_length=1, elem_shape=(4,), dtype="fp32")
        ls = mb.list_write(ls=ls, index=2, value=mb.mul(x=first, y=2.0))
        ls = mb.list_scatter(ls=ls, indices=i, value=x)
        return (
            mb.list_read(ls=ls, index=2),
            mb.list_gather(ls=ls, indices=np.array([3, 0, 3], np.int32)),
            mb.expand_dims(x=mb.list_length(ls=ls), axes=[0]),
        )

    element, rows, length = run(body, x, i, ops=["make_list", "list_write", "list_scatter"])
    np.testing.assert_array_equal(element, x[0] * 2)
    np.testing.assert_array_equal(rows, x[[1, 2, 1]])
    assert length.tolist() == [4]


@proves("read_state", "write_state", against=NUMPY, over="kept from one call to the next")
def test_state(tmp_path):
    @mb.program(
        input_specs=[
            mb.TensorSpec((2, 3), dtype=types.fp16),
            mb.StateTensorSpec((2, 3), dtype=types.fp16),
        ],
        opset_version=ct.target.iOS18,
    )
    def accumulate(x, total):
        return mb.coreml_update_state(state=total, value=mb.add(x=x, y=mb.read_state(input=total)))

    path = convert(accumulate, tmp_path / "m.mlpackage", ios=18, compute_precision=None)
    program = Program.load(path)
    state, x = program.make_state(), np.ones((2, 3), np.float16)
    (once,) = program({"x": x}, state=state).values()
    (twice,) = program({"x": x}, state=state).values()
    assert (once == 1).all()
    assert (twice == 2).all()


class Running(nn.Module):
    """Adds its input to a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 3))

    def forward(self, x):
        self.total.add_(x)
        return self.total * 2


@proves(
    "read_state", "write_state", against=TORCH, over="a buffer changed in place", source=FROM_TORCH
)
def test_state_from_torch(tmp_path):
    x = floats(2, 3).astype(np.float16)
    network = Running()
    traced = torch.jit.trace(Running(), torch.zeros(2, 3))
    path = convert(
        traced,
        tmp_path / "m.mlpackage",
        ios=18,
        inputs=[ct.TensorType(name="x", shape=(2, 3), dtype=np.float16)],
        states=[ct.StateType(ct.TensorType(shape=(2, 3), dtype=np.float16), name="total")],
        compute_precision=ct.precision.FLOAT16,
    )
    program = Program.load(path)
    state = program.make_state()
    for _ in range(3):
        with converted_from(FROM_TORCH):
            (found,) = program({"x": x}, state=state).values()
        expected = network(torch.from_numpy(x).float()).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
