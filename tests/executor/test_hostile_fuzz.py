"""Damaged packages: whatever is changed, a `PackageError` or results of the declared shapes.

Each test damages packages in a child process with a limit on memory, so that a crash, a hang or a
hunger for memory fails the test instead of ending it.
"""

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction
from hostile_packages import run_child
from mil_packages import convert, floats, save


def shaping(x):
    y = mb.tile(x=mb.pad(x=x, pad=[0, 0, 1, 2], mode="reflect"), reps=[1, 2, 1])
    y = mb.slice_by_index(x=y, begin=[0, 1, 0], end=[1, 6, 9], stride=[1, 2, 2])
    picked = mb.gather(x=y, indices=np.array([0, 2, 1, 1], np.int32), axis=1)
    wide = mb.upsample_nearest_neighbor(x=picked, scale_factor_width=2.0)
    shaped = mb.reshape(x=wide, shape=mb.concat(values=(mb.shape(x=wide), [1]), axis=0))
    hot = mb.cast(x=mb.one_hot(indices=[1, 0], one_hot_vector_size=4), dtype="fp32")
    filled = mb.fill(shape=[2, 4], value=0.5)
    ranged = mb.cast(x=mb.range_1d(start=0, end=4, step=1), dtype="fp32")
    summed = mb.add(x=mb.mul(x=hot, y=filled), y=ranged)
    values, indices = mb.topk(x=summed, k=2, axis=1)
    parts = mb.split(x=mb.transpose(x=shaped, perm=[0, 2, 1, 3]), num_splits=2, axis=2)
    return (*parts, mb.cumsum(x=summed, axis=1), values, indices)


def convolution(x):
    weight = floats(4, 3, 5, seed=1)
    y = mb.conv(x=x, weight=weight, pad_type="same", dilations=[2])
    y = mb.conv_transpose(x=y, weight=floats(4, 2, 4, seed=2), strides=[2], pad=[1, 1], groups=2)
    y = mb.avg_pool(x=y, kernel_sizes=[2], strides=[2], pad_type="valid")
    y = mb.instance_norm(x=y, gamma=floats(4, seed=3), beta=floats(4, seed=4))
    y = mb.resize_bilinear(x=mb.expand_dims(x=y, axes=[2]), target_size_height=1,
                           target_size_width=9, sampling_mode="UNALIGN_CORNERS")  # fmt: skip
    return mb.softmax(x=mb.gelu(x=mb.squeeze(x=y, axes=[2])), axis=-1)


def recurrent(x):
    weight_ih, weight_hh = floats(16, 3, seed=1), floats(16, 4, seed=2)
    h, *_ = mb.lstm(
        x=x, initial_h=np.zeros((2, 8), np.float32), initial_c=np.zeros((2, 8), np.float32),
        weight_ih=weight_ih, weight_hh=weight_hh, bias=floats(16, seed=3), weight_ih_back=weight_ih,
        weight_hh_back=weight_hh, bias_back=floats(16, seed=3), direction="bidirectional",
        output_sequence=True,
    )  # fmt: skip
    return mb.matmul(x=h, y=floats(8, 12, seed=4))


def control(x):
    def go_on(i, y):
        return mb.less(x=i, y=3)

    def body(i, y):
        return mb.add(x=i, y=1), mb.mul(x=y, y=2.0)

    _, y = mb.while_loop(_cond=go_on, _body=body, loop_vars=(0, x))
    total = mb.greater(x=mb.reduce_sum(x=y), y=0.0)
    return mb.cond(
        pred=total, _true_fn=lambda: mb.exp(x=y), _false_fn=lambda: mb.scatter(
            data=y, indices=np.array([1], np.int32), updates=floats(1, 4), axis=0, mode="add")
    )  # fmt: skip


def compressed(x):
    indices = np.arange(60).reshape(4, 15) % 8
    lut = floats(1, 1, 8, 1, seed=5)
    three = indices.astype(types.nptype_from_builtin(types.string_to_builtin("uint3")))
    weight = mb.constexpr_lut_to_dense(indices=three, lut=lut)
    four = (np.arange(24).reshape(4, 6) % 16 - 8).astype(
        types.nptype_from_builtin(types.string_to_builtin("int4"))
    )
    scaled = mb.constexpr_blockwise_shift_scale(data=four, scale=floats(2, 3))
    mask = (np.arange(16).reshape(4, 4) % 2).astype(
        types.nptype_from_builtin(types.string_to_builtin("uint1"))
    )
    sparse = mb.constexpr_sparse_to_dense(nonzero_data=floats(8), mask=mask)
    y = mb.linear(x=x, weight=weight, bias=np.zeros(4, np.float32))
    y = mb.matmul(x=y, y=scaled)
    return mb.matmul(x=sparse, y=y, transpose_x=True)


class Half(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm = torch.nn.Linear(8, 16), torch.nn.LayerNorm(16)

    def forward(self, x):
        return torch.nn.functional.interpolate(self.norm(self.linear(x)), scale_factor=2.0)


class Accumulator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3, dtype=torch.float16))

    def forward(self, x):
        self.total.add_(x)
        return self.total * 2


def half(path):
    ranged = ct.Shape((1, ct.RangeDim(2, 9, default=4), 8))
    traced = torch.jit.trace(Half(), torch.zeros(1, 4, 8))
    kind = ct.TensorType(name="x", shape=ranged)
    return convert(traced, path, inputs=[kind], compute_precision=ct.precision.FLOAT16)


def stateful(path):
    traced = torch.jit.trace(Accumulator(), torch.zeros(3, dtype=torch.float16))
    kind = ct.TensorType(name="x", shape=(3,), dtype=np.float16)
    state = ct.StateType(wrapped_type=ct.TensorType(shape=(3,), dtype=np.float16), name="total")
    return convert(traced, path, ios=18, inputs=[kind], states=[state])


def multifunction(folder):
    descriptor = MultiFunctionDescriptor()
    for width in (4, 6):
        path = folder / f"{width}.mlpackage"
        body = lambda x: mb.linear(x=mb.transpose(x=x, perm=[1, 0]), weight=floats(20, 3))  # noqa: E731
        save(body, [floats(3, width)], path, ios=18)
        descriptor.add_function(str(path), "main", f"f{width}")
    descriptor.default_function_name = "f4"
    save_multifunction(descriptor, str(folder / "multifunction.mlpackage"))
    return folder / "multifunction.mlpackage"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intact")
    made = {
        "shaping": save(shaping, [floats(1, 3, 4)], folder / "shaping.mlpackage"),
        "convolution": save(convolution, [floats(1, 3, 9)], folder / "convolution.mlpackage"),
        "recurrent": save(recurrent, [floats(5, 2, 3)], folder / "recurrent.mlpackage"),
        "control": save(control, [floats(3, 4)], folder / "control.mlpackage"),
        "compressed": save(compressed, [floats(4, 15)], folder / "compressed.mlpackage", ios=18),
        "half": half(folder / "half.mlpackage"),
        "stateful": stateful(folder / "stateful.mlpackage"),
        "multifunction": multifunction(folder),
    }
    return {n: (p, "f6" if n == "multifunction" else "main") for n, p in made.items()}


@pytest.mark.parametrize("how", ["fields", "bytes", "weights"])
def test_damage_gives_an_error_or_results_as_declared(packages, tmp_path, how):
    count = {"fields": 100, "bytes": 60, "weights": 30}[how]
    chosen = [packages[n] for n in packages if how != "weights" or n not in ("stateful", "control")]
    written, _ = run_child(tmp_path, chosen, [how], [0, count])
    *wrong, summary = written.splitlines()
    assert wrong == []
    survived, refused = (int(word.strip(",")) for word in summary.split()[1::2])
    assert min(survived, refused) > 20, summary
