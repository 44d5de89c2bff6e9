"""Nested blocks, lists and states, saved with the MIL builder and run from disk."""

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from mil_packages import close, convert, edit, floats, operation_of, save
from torch import nn

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import Program
from kokoro_coreml.executor.graph import MAX_NESTING
from kokoro_coreml.executor.ops import control

X = floats(3, 4)


def test_cond_runs_one_branch_only(tmp_path):
    def body(x, flag):
        chosen = mb.greater(x=mb.squeeze(x=flag, axes=[0]), y=np.float32(0), name="chosen")
        return mb.cond(
            pred=chosen,
            _true_fn=lambda: mb.add(x=x, y=np.float32(1), name="plus"),
            _false_fn=lambda: mb.mul(x=x, y=np.float32(3), name="times"),
            name="y",
        )

    program = Program.load(save(body, [X, floats(1)], tmp_path / "m.mlpackage"))
    seen = []

    def see(operation, _results):
        seen.append(operation.type)

    yes = program({"x": X, "flag": np.float32([1])}, on_operation=see, capture=["plus"])
    close(yes["y"], X + 1)
    close(yes["plus"], X + 1)
    assert "mul" not in seen
    no = program({"x": X, "flag": np.float32([-1])})
    close(no["y"], X * 3)
    with pytest.raises(PackageError, match="capture plus: the block that computes it was not run"):
        program({"x": X, "flag": np.float32([-1])}, capture=["plus"])


def doubling(x, limit):
    """Doubles x until its sum passes the limit; counts the rounds."""

    def condition(count, value):
        return mb.less(x=mb.reduce_sum(x=value), y=mb.squeeze(x=limit, axes=[0]))

    def step(count, value):
        grown = mb.mul(x=value, y=np.float32(2), name="grown")
        return mb.add(x=count, y=np.int32(1)), grown

    return mb.while_loop(_cond=condition, _body=step, loop_vars=(np.int32(0), x), name="loop")


def test_while_loop_runs_until_its_condition_is_false(tmp_path):
    program = Program.load(save(doubling, [X, floats(1)], tmp_path / "m.mlpackage"))
    x = np.abs(X) + 0.1
    limit = np.float32([x.sum() * 20])
    count, value = (program({"x": x, "limit": limit})[name] for name in program.outputs)
    expected, rounds = x, 0
    while expected.sum() < limit[0]:
        expected, rounds = expected * 2, rounds + 1
    assert count == rounds == 5
    close(value, expected)
    last = program({"x": x, "limit": limit}, capture=["grown"])["grown"]
    close(last, expected)


def test_while_loop_may_run_no_round(tmp_path):
    program = Program.load(save(doubling, [X, floats(1)], tmp_path / "m.mlpackage"))
    count, value = (
        program({"x": X, "limit": np.float32([-1e9])})[name] for name in program.outputs
    )
    assert count == 0
    close(value, X)


def test_a_loop_without_end_is_an_error(tmp_path, monkeypatch):
    program = Program.load(save(doubling, [X, floats(1)], tmp_path / "m.mlpackage"))
    monkeypatch.setattr(control, "MAX_ITERATIONS", 50)
    with pytest.raises(PackageError, match="did not end within 50 iterations"):
        program({"x": np.zeros_like(X), "limit": np.float32([1])})


def test_blocks_inside_blocks(tmp_path):
    def body(x):
        def step(count, value):
            odd = mb.equal(x=mb.mod(x=count, y=np.int32(2)), y=np.int32(1))
            grown = mb.cond(
                pred=odd,
                _true_fn=lambda: mb.add(x=value, y=x),
                _false_fn=lambda: mb.mul(x=value, y=np.float32(2)),
            )
            return mb.add(x=count, y=np.int32(1)), grown

        return mb.while_loop(
            _cond=lambda count, value: mb.less(x=count, y=np.int32(5)),
            _body=step,
            loop_vars=(np.int32(0), x),
        )

    program = Program.load(save(body, [X], tmp_path / "m.mlpackage"))
    expected = X
    for count in range(5):
        expected = expected + X if count % 2 else expected * 2
    close(program({"x": X})[list(program.outputs)[1]], expected)
    positions = [o.position for o in program.operations]
    assert positions == list(range(len(positions)))


def test_a_traced_torch_loop(tmp_path):
    class Loop(nn.Module):
        def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
            i = 0
            while i < int(n):
                x = x * 1.5 + 1.0
                i = i + 1
            return x

    path = convert(
        torch.jit.script(Loop().eval()),
        tmp_path / "m.mlpackage",
        inputs=[
            ct.TensorType(name="x", shape=(3, 4)),
            ct.TensorType(name="n", shape=(1,), dtype=np.int32),
        ],
    )
    program = Program.load(path)
    assert "while_loop" in {o.type for o in program.operations}
    expected = X
    for _ in range(4):
        expected = expected * 1.5 + 1.0
    (found,) = program({"x": X, "n": np.int32([4])}).values()
    close(found, expected)


def test_lists_are_written_read_gathered_and_scattered(tmp_path):
    def body(x):
        ls = mb.make_list(init_length=1, dynamic_length=True, elem_shape=(4,), dtype="fp32")
        for i in range(3):
            row = mb.squeeze(x=mb.slice_by_size(x=x, begin=[i, 0], size=[1, 4]), axes=[0])
            ls = mb.list_write(ls=ls, index=np.int32(i), value=row)
        ls = mb.list_scatter(ls=ls, indices=np.int32([3, 0]), value=np.ones((2, 4), np.float32))
        return (
            mb.identity(x=mb.list_length(ls=ls), name="length"),
            mb.list_read(ls=ls, index=np.int32(1), name="one"),
            mb.list_gather(ls=ls, indices=np.int32([2, 0]), name="both"),
        )

    outputs = Program.load(save(body, [X], tmp_path / "m.mlpackage"))({"x": X})
    assert outputs["length"] == 4
    close(outputs["one"], X[1])
    close(outputs["both"], np.stack([X[2], np.ones(4, np.float32)]))


@pytest.mark.parametrize(
    ("dynamic", "index", "message"),
    [(True, 2, "not written yet"), (True, 9, "outside a list"), (False, 1, "outside a list")],
)
def test_wrong_list_reads_and_writes(dynamic, index, message):
    ls = control.make_list((torch.tensor(2),), 3, dynamic)
    if dynamic:
        with pytest.raises(ValueError, match=message):
            control.list_read(ls, index)
    else:
        with pytest.raises(ValueError, match=message):
            control.list_write(ls, 3, torch.zeros(2))
    with pytest.raises(ValueError, match="the list holds"):
        control.list_write(ls, 0, torch.zeros(5))


def accumulator(path):
    """A package whose state is a running sum of its input."""

    class Accumulator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3, 4, dtype=torch.float16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(x)
            return self.total * 2

    traced = torch.jit.trace(Accumulator().eval(), torch.zeros(3, 4, dtype=torch.float16))
    return convert(
        traced,
        path,
        ios=18,
        inputs=[ct.TensorType(name="x", shape=(3, 4), dtype=np.float16)],
        outputs=[ct.TensorType(name="y", dtype=np.float16)],
        states=[ct.StateType(ct.TensorType(shape=(3, 4), dtype=np.float16), name="total")],
        compute_precision=ct.precision.FLOAT16,
    )


def test_a_state_lives_from_call_to_call(tmp_path):
    program = Program.load(accumulator(tmp_path / "m.mlpackage"))
    assert {"read_state", "write_state"} <= {o.type for o in program.operations}
    assert list(program.inputs) == ["x"]
    assert str(program.states["total"]) == "state<fp16[3, 4]>"
    state = program.make_state()
    for calls in (1, 2, 3):
        close(program({"x": X}, state=state)["y"], 2 * calls * X)
    close(state.read("total"), 3 * X)
    state.write("total", X)
    close(program({"x": X}, state=state)["y"], 4 * X)


def test_without_a_state_nothing_is_remembered(tmp_path):
    program = Program.load(accumulator(tmp_path / "m.mlpackage"))
    for _ in range(2):
        close(program({"x": X})["y"], 2 * X)
    with pytest.raises(PackageError, match="no state 'sum'; there are: total"):
        program.make_state().read("sum")
    with pytest.raises(PackageError, match=r"state 'total': expected fp16\[3, 4\]"):
        program.make_state().write("total", floats(2))


def test_a_state_is_rounded_to_its_type_in_declared_precision(tmp_path):
    program = Program.load(accumulator(tmp_path / "m.mlpackage"), precision="declared")
    state = program.make_state()
    program({"x": X}, state=state)
    close(state.read("total"), X.astype(np.float16).astype(np.float32), 0)


def test_blocks_nested_too_deep_are_refused(tmp_path):
    def body(x):
        pred = mb.greater(x=mb.reduce_sum(x=x), y=np.float32(0))
        return mb.cond(pred=pred, _true_fn=lambda: mb.identity(x=x), _false_fn=lambda: mb.relu(x=x))

    path = save(body, [X], tmp_path / "m.mlpackage")

    def deepen(model):
        holder = operation_of(model, "cond")
        for b in holder.blocks:
            current = b
            for _ in range(MAX_NESTING + 5):
                fresh = current.operations.add()
                fresh.type = "cond"
                current = fresh.blocks.add()

    edit(path, deepen)
    with pytest.raises(PackageError, match="nested more than"):
        Program.load(path)


def test_a_name_of_a_block_is_not_seen_outside_it(tmp_path):
    def body(x):
        pred = mb.greater(x=mb.reduce_sum(x=x), y=np.float32(0))
        chosen = mb.cond(
            pred=pred,
            _true_fn=lambda: mb.exp(x=x, name="inner"),
            _false_fn=lambda: mb.relu(x=x),
        )
        return mb.sin(x=chosen)

    def leak(model):
        operation_of(model, "sin").inputs["x"].arguments[0].name = "inner"

    path = edit(save(body, [X], tmp_path / "m.mlpackage"), leak)
    with pytest.raises(PackageError, match="reads 'inner' before it is defined"):
        Program.load(path)


def test_the_types_of_a_block_are_asserted(tmp_path):
    def lie(model):
        loop = operation_of(model, "while_loop")
        loop.blocks[1].inputs[1].type.tensorType.dimensions[0].constant.size = 7

    path = edit(save(doubling, [X, floats(1)], tmp_path / "m.mlpackage"), lie)
    with pytest.raises(PackageError, match=r"block input .* is declared fp32\[7, 4\]"):
        Program.load(path)({"x": np.abs(X), "limit": np.float32([1e3])})


def test_a_plain_operation_has_no_blocks(tmp_path):
    path = save(lambda x: mb.exp(x=x), [X], tmp_path / "m.mlpackage")
    edit(path, lambda model: operation_of(model, "exp").blocks.add())
    with pytest.raises(PackageError, match="has 1 nested blocks"):
        Program.load(path)
