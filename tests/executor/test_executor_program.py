import weakref

import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction
from mil_packages import close, convert, floats, run, run_torch, save
from torch import Tensor, nn

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import OPS, Package, Program, TensorSpec, run_package
from kokoro_coreml.executor.ops.registry import Ints, Opset, op


def body(x, y):
    z = mb.mul(x=mb.add(x=x, y=y, name="total"), y=np.float32(2), name="twice")
    return mb.sub(x=z, y=x, name="result"), mb.reduce_sum(x=z, axes=[0], name="column")


X, Y = floats(2, 3), floats(2, 3, seed=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save(body, [X, Y], tmp_path_factory.mktemp("program") / "m.mlpackage")


def test_run_package_in_one_call(path):
    outputs = run_package(path, {"x": X, "y": Y})
    assert list(outputs) == ["column", "result"]
    close(outputs["result"], (X + Y) * 2 - X)
    close(outputs["column"], ((X + Y) * 2).sum(0))


def test_unknown_precision_names_those_that_exist(path):
    with pytest.raises(PackageError, match="'half' does not exist; available: float32"):
        run_package(path, {"x": X, "y": Y}, precision="half")


def test_interface_and_operations(path):
    program = Program.load(path)
    assert program.opset == 17
    assert program.inputs == {"x": TensorSpec("fp32", (2, 3)), "y": TensorSpec("fp32", (2, 3))}
    assert program.outputs["column"] == TensorSpec("fp32", (3,))
    total = next(o for o in program.operations if o.name == "total")
    assert (total.type, total.inputs) == ("add", {"x": ("x",), "y": ("y",)})
    assert [o.position for o in program.operations] == list(range(len(program.operations)))


def test_one_program_many_calls_and_no_state_between_them(path):
    program = Program.load(path)
    first = program({"x": X, "y": Y})
    program({"x": X * 100, "y": Y})
    close(program({"x": X, "y": Y})["result"], first["result"], 0)


def test_any_intermediate_can_be_captured(path):
    outputs = Program.load(path)({"x": X, "y": Y}, capture=["total", "x"])
    close(outputs["total"], X + Y)
    close(outputs["x"], X)
    with pytest.raises(PackageError, match="cannot capture nothing"):
        Program.load(path)({"x": X, "y": Y}, capture=["nothing"])
    with pytest.raises(TypeError, match="collection of names"):
        Program.load(path)({"x": X, "y": Y}, capture="total")


def test_callback_sees_every_operation_in_order_with_its_results(path):
    seen = []
    Program.load(path)(
        {"x": X, "y": Y}, on_operation=lambda o, results: seen.append((o.name, results[0].shape))
    )
    assert [name for name, _ in seen] == ["total", "twice", "result", "column"]
    assert seen[-1][1] == (3,)


def test_tensors_are_freed_after_their_last_use(path):
    alive = {}
    results = {}

    def watch(operation, tensors):
        results[operation.name] = weakref.ref(tensors[0])
        alive[operation.name] = {name for name, ref in results.items() if ref() is not None}

    Program.load(path)({"x": X, "y": Y}, on_operation=watch)
    assert alive == {
        "total": {"total"},
        "twice": {"total", "twice"},  # inputs die after the operation that reads them last
        "result": {"twice", "result"},
        "column": {"twice", "result", "column"},
    }
    assert not any(ref() is not None for ref in results.values())


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({"x": X}, r"missing \['y'\]"),
        ({"x": X, "y": Y, "z": Y}, r"unknown \['z'\]"),
        ({"x": X, "y": Y.astype(np.float64)}, "expected an array of float32, found float64"),
        ({"x": X, "y": Y.astype(np.int32)}, "found int32"),
        ({"x": X, "y": Y[:, :2]}, r"expected fp32\[2, 3\], found shape \[2, 2\]"),
        ({"x": X, "y": Y.tolist()}, "expected a numpy array, found list"),
        ({"x": X, "y": np.asarray(Y, dtype=">f4")}, "found >f4"),
    ],
)
def test_inputs_are_checked(path, inputs, match):
    with pytest.raises(PackageError, match=match):
        Program.load(path)(inputs)


def test_non_contiguous_and_read_only_inputs_are_fine_and_stay_unchanged(path):
    x = np.asfortranarray(X)
    x.flags.writeable = False
    close(Program.load(path)({"x": x, "y": Y})["result"], (X + Y) * 2 - X)


def test_unknown_function_names_those_that_exist(path):
    with pytest.raises(PackageError, match="no function 'other' in this package; it has: main"):
        Program.load(path, "other")


def test_functions_of_a_multifunction_package(tmp_path):
    weight = floats(4, 3)
    for number, rows in ((0, 2), (1, 5)):
        save(
            lambda x: mb.linear(x=x, weight=weight, name="y"),
            [floats(rows, 3)],
            tmp_path / f"{number}.mlpackage",
            ios=18,
        )
    descriptor = MultiFunctionDescriptor()
    descriptor.add_function(str(tmp_path / "0.mlpackage"), "main", "two")
    descriptor.add_function(str(tmp_path / "1.mlpackage"), "main", "five")
    descriptor.default_function_name = "two"
    save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
    for name, rows in (("two", 2), ("five", 5)):
        x = floats(rows, 3, seed=rows)
        outputs = run_package(tmp_path / "both.mlpackage", {"x": x}, function=name)
        close(outputs["y"], x @ weight.T)


def test_float32_weights_are_not_copied(tmp_path):
    weight = floats(64, 32)
    path = save(lambda x: mb.linear(x=x, weight=weight), [floats(2, 32)], tmp_path / "m.mlpackage")
    package = Package.load(path)
    (step,) = Program(package)._body.steps
    (file,) = package._files.values()
    assert np.shares_memory(step.fixed["weight"].numpy(), file._bytes)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(12)
        self.conv = nn.Conv1d(12, 8, 3, padding=1)
        self.up = nn.ConvTranspose1d(8, 4, 4, 2, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, ids: Tensor, gain: Tensor) -> Tensor:
        x, _ = self.lstm(self.embed(ids))
        x = torch.nn.functional.gelu(self.norm(x), approximate="tanh").transpose(1, 2)
        x = torch.nn.functional.leaky_relu(self.conv(x), 0.2)
        x = torch.cat([x, x * torch.sin(gain)], dim=-1)
        x = self.up(x)[:, :, 1:-1].transpose(1, 2)
        return torch.softmax(self.head(x) * gain.mean(), dim=-1)


def test_small_network_from_torch_with_the_default_passes():
    torch.manual_seed(0)
    module = Block()
    ids, gain = np.array([[3, 1, 19, 0, 7]], np.int32), floats(1, 1, 5)
    kinds = ["gather", "lstm", "layer_norm", "gelu", "conv", "conv_transpose", "softmax"]
    (found,) = run_torch(module, ids, gain, ops=kinds)
    with torch.inference_mode():
        expected = module(torch.from_numpy(ids), torch.from_numpy(gain))
    close(found, expected.numpy(), 1e-6)


def test_half_precision_package_is_computed_in_float32(tmp_path):
    import coremltools as ct

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 8)).eval()
    x = floats(4, 32)
    path = convert(
        torch.jit.trace(module, torch.from_numpy(x)),
        tmp_path / "half.mlpackage",
        inputs=[ct.TensorType(name="x", shape=x.shape, dtype=np.float16)],
        outputs=[ct.TensorType(name="y", dtype=np.float16)],
        compute_precision=ct.precision.FLOAT16,
    )
    program = Program.load(path)
    assert program.outputs["y"].dtype == "fp16"
    found = program({"x": x})["y"]
    rounded = [p.detach().half().float() for p in module.parameters()]
    t = torch.nn.functional.linear(torch.from_numpy(x), rounded[0], rounded[1]).tanh()
    close(found, torch.nn.functional.linear(t, rounded[2], rounded[3]).numpy(), 1e-6)


def test_registry_refuses_duplicates_and_unknown_kinds_of_parameters():
    with pytest.raises(ValueError, match="'conv' is registered twice"):
        op("conv")(lambda: torch.zeros(()))
    with pytest.raises(ValueError, match="'random_normal' is registered twice"):
        op("random_normal")(lambda: torch.zeros(()))

    def strange(x: bytes) -> Tensor:
        raise AssertionError

    with pytest.raises(ValueError, match="is not a kind of parameter"):
        op("strange")(strange)
    assert "strange" not in OPS


def test_table_entries_carry_parameters_defaults_and_documentation():
    gather = OPS["gather"]
    assert gather.family == "gather"
    assert gather.opset_parameter == "opset"
    assert list(gather.parameters) == ["x", "indices", "axis", "batch_dims", "validate_indices"]
    assert (gather.parameters["axis"].default, gather.parameters["axis"].required) == (0, False)
    assert OPS["concat"].parameters["values"].variadic
    assert [name for name, definition in OPS.items() if not definition.doc] == []
    assert Ints == tuple[int, ...]
    assert Opset(17) == 17


def test_failure_inside_an_operation_names_it():
    with pytest.raises(PackageError, match=r"operation .*, reshape 'bad' failed"):
        run(
            lambda x, s: mb.reshape(x=x, shape=s, name="bad"),
            floats(2, 3),
            np.array([4, 2], np.int32),
        )
