"""The operator table against coremltools' own declarations: names, required ones, defaults."""

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from mil_packages import TARGETS, block_of, edit, floats, save

from kokoro_coreml.executor import OPS, REFUSED, Program

NOT_YET = {
    "affine",
    "classify",
    "cond",
    "const",  # read by the loader, not run
    "conv_quantized",
    "crop_resize",
    "list_gather",
    "list_length",
    "list_read",
    "list_scatter",
    "list_write",
    "make_list",
    "non_maximum_suppression",
    "read_state",
    "resample",
    "while_loop",
}
"""Operations of the iOS 15 to 18 sets that cannot be run yet; each is refused by name."""

INTERNAL = {"_const_symbolic", "const_symbolic"}
NOT_DOCUMENTED = {("gru", "reset_after"), ("gru", "input_bias")}
BIND = {"gru": {"bias"}}


def declarations():
    for name, versions in SSAOpRegistry.core_ops.items():
        for ios, target in TARGETS.items():
            if target in versions:
                yield name, ios, versions[target].input_spec.input_types


def test_every_operation_is_in_the_table_refused_or_listed_as_missing():
    names = {name for name, _, _ in declarations()} - INTERNAL
    assert names - set(OPS) - set(REFUSED) == NOT_YET
    assert set(OPS) <= names
    assert set(REFUSED) <= names


@pytest.mark.parametrize("name", sorted(OPS))
def test_parameters_are_those_coremltools_declares(name):
    ours = OPS[name].parameters
    declared = {}
    for candidate, _, inputs in declarations():
        if candidate == name:
            for key, kind in inputs.items():
                if (name, key) not in NOT_DOCUMENTED:
                    declared.setdefault(key, []).append(kind.optional)
    assert set(ours) == set(declared)
    for key, optional in declared.items():
        assert ours[key].required <= (not any(optional)), key


X = floats(1, 4, 6, 8, low=0.2, high=3.0)
ROW = floats(1, 4, 6, low=0.2, high=3.0)
INDEX = np.array([[1, 0, 2]], np.int32)
W = floats(3, 4, 2, seed=1)

DEFAULTS = {
    "inverse": lambda x, r, i: mb.inverse(x=mb.mul(x=x, y=np.float32(1e-3))),
    "log": lambda x, r, i: mb.log(x=mb.mul(x=x, y=np.float32(0))),
    "rsqrt": lambda x, r, i: mb.rsqrt(x=mb.mul(x=x, y=np.float32(0))),
    "gelu": lambda x, r, i: mb.gelu(x=x),
    "softmax": lambda x, r, i: mb.softmax(x=x),
    "layer_norm": lambda x, r, i: mb.layer_norm(x=mb.mul(x=x, y=np.float32(1e-2)), axes=[-1]),
    "instance_norm": lambda x, r, i: mb.instance_norm(x=mb.mul(x=x, y=np.float32(1e-2))),
    "batch_norm": lambda x, r, i: mb.batch_norm(
        x=x, mean=np.zeros(4, np.float32), variance=np.full(4, 1e-4, np.float32)
    ),
    "l2_norm": lambda x, r, i: mb.l2_norm(x=mb.mul(x=x, y=np.float32(1e-3))),
    "local_response_norm": lambda x, r, i: mb.local_response_norm(
        x=mb.mul(x=x, y=np.float32(50)), size=3
    ),
    "conv": lambda x, r, i: mb.conv(x=r, weight=W),
    "conv_transpose": lambda x, r, i: mb.conv_transpose(x=r, weight=floats(4, 3, 2)),
    "linear": lambda x, r, i: mb.linear(x=x, weight=floats(3, 8)),
    "matmul": lambda x, r, i: mb.matmul(x=x, y=floats(8, 8)),
    "reduce_sum": lambda x, r, i: mb.expand_dims(x=mb.reduce_sum(x=x), axes=[0]),
    "reduce_argmax": lambda x, r, i: mb.reduce_argmax(x=x),
    "reduce_argmin": lambda x, r, i: mb.reduce_argmin(x=x),
    "cumsum": lambda x, r, i: mb.cumsum(x=x),
    "argsort": lambda x, r, i: mb.argsort(x=x),
    "topk": lambda x, r, i: mb.topk(x=x)[0],
    "one_hot": lambda x, r, i: mb.one_hot(indices=i, one_hot_vector_size=3),
    "fill": lambda x, r, i: mb.fill(shape=[2, 3]),
    "fill_like": lambda x, r, i: mb.fill_like(ref_tensor=x),
    "band_part": lambda x, r, i: mb.band_part(x=x),
    "gather": lambda x, r, i: mb.gather(x=mb.transpose(x=r, perm=[1, 0, 2]), indices=i),
    "gather_along_axis": lambda x, r, i: mb.gather_along_axis(
        x=mb.slice_by_size(x=mb.squeeze(x=r), begin=[0, 0], size=[4, 3]), indices=i
    ),
    "scatter": lambda x, r, i: mb.scatter(
        data=mb.squeeze(x=r), indices=mb.squeeze(x=i), updates=floats(3, 6)
    ),
    "scatter_along_axis": lambda x, r, i: mb.scatter_along_axis(
        data=mb.slice_by_size(x=mb.squeeze(x=r), begin=[0, 0], size=[4, 3]),
        indices=i,
        updates=floats(1, 3),
    ),
    "scatter_nd": lambda x, r, i: mb.scatter_nd(
        data=mb.squeeze(x=r), indices=mb.transpose(x=i, perm=[1, 0]), updates=floats(3, 6)
    ),
    "pad": lambda x, r, i: mb.pad(x=x, pad=[1, 2]),
    "squeeze": lambda x, r, i: mb.squeeze(x=x),
    "reverse": lambda x, r, i: mb.reverse(x=x),
    "flatten2d": lambda x, r, i: mb.flatten2d(x=x),
    "sliding_windows": lambda x, r, i: mb.sliding_windows(x=r, axis=1, size=2),
    "concat": lambda x, r, i: mb.concat(values=(x, x), axis=1),
    "slice_by_index": lambda x, r, i: mb.slice_by_index(x=r, begin=[0, 1, 0], end=[1, 3, 5]),
    "max_pool": lambda x, r, i: mb.max_pool(x=x, kernel_sizes=[2, 2], pad_type="valid"),
    "avg_pool": lambda x, r, i: mb.avg_pool(x=x, kernel_sizes=[3, 3], pad_type="same"),
    "upsample_bilinear": lambda x, r, i: mb.upsample_bilinear(x=x, scale_factor_width=3),
    "upsample_nearest_neighbor": lambda x, r, i: mb.upsample_nearest_neighbor(x=x),
    "resize": lambda x, r, i: mb.resize(x=x, shape=[9, 5], resized_dims=np.uint32(2)),
    "lstm": lambda x, r, i: mb.lstm(
        x=r,
        initial_h=np.zeros((4, 2), np.float32),
        initial_c=np.zeros((4, 2), np.float32),
        weight_ih=floats(8, 6),
        weight_hh=floats(8, 2),
    )[0],
    "gru": lambda x, r, i: mb.gru(
        x=r,
        initial_h=np.zeros((4, 2), np.float32),
        weight_ih=floats(6, 6),
        weight_hh=floats(6, 2),
    )[0],
}
KEPT = {"upsample_bilinear": {"scale_factor_width"}, "layer_norm": {"axes"}}
"""Parameters given on purpose."""


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_default_left_out_of_a_package_is_the_one_coremltools_writes(name, tmp_path):
    path = save(DEFAULTS[name], [X, ROW, INDEX], tmp_path / "m.mlpackage")
    inputs = {"x": X, "r": ROW, "i": INDEX}
    (written,) = Program.load(path)(inputs).values()
    removed = []

    def strip(model):
        for operation in block_of(model).operations:
            if operation.type != name:
                continue
            for key in list(operation.inputs):
                if not OPS[name].parameters[key].required and key not in KEPT.get(name, ()):
                    removed.append(key)
                    del operation.inputs[key]

    (left_out,) = Program.load(edit(path, strip))(inputs).values()
    assert removed or name in {"squeeze", "reverse", "slice_by_index", "reduce_sum"}
    np.testing.assert_array_equal(left_out, written)
