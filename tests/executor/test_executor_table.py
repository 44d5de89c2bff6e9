"""The operator table against coremltools' own declarations: names, required ones, defaults."""

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types as mil_types
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from mil_packages import TARGETS, block_of, edit, floats, run, save

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import OPS, REFUSED, Program

LOADED = {"const"}
"""Read by the loader, not run."""

INTERNAL = {"_const_symbolic"}
"""Exist while coremltools converts, and cannot be saved."""

ONLY_SAVED = {"write_state"}
"""What coremltools' backend writes for `coreml_update_state` of its own dialect."""

VERSIONED = {
    ("crop_resize", "roi"): "required up to iOS 16, replaced by boxes; checked when it runs",
    ("crop_resize", "boxes"): "required from iOS 17; checked when it runs",
    ("constexpr_lut_to_dense", "shape"): "iOS 16 form; without it the iOS 18 form is meant",
    ("constexpr_sparse_to_dense", "shape"): "iOS 16 form; without it the iOS 18 form is meant",
    ("non_maximum_suppression", "score_threshold"): "up to iOS 16; checked when it runs",
}
"""Parameters that some opsets require and others do not have."""

BLOCKS = {"_true_fn", "_false_fn", "_cond", "_body", "_existing_blocks"}
"""Nested blocks, which are not parameters in a saved package."""

DERIVED = {"pad", "strides", "dilations", "axes", "box_indices"}
"""Defaults that follow from other arguments: all 0, all 1, all axes, 0 to N - 1."""

DOCUMENTED = {
    ("gru", "reset_after"): False,
    ("topk", "output_indices_dtype"): "int32",
}
"""Defaults that the documentation gives and coremltools' `default_inputs` leaves out."""

IN_THE_FUNCTION = {
    ("fill", "value"): 0.0,
    ("fill_like", "value"): 0.0,
    ("one_hot", "on_value"): 1,
    ("one_hot", "off_value"): 0,
}
"""Defaults of a tensor, whose type MIL leaves open."""


class Stand:
    """Stands for any bound argument while coremltools is asked for its defaults."""

    rank, shape, dtype, val = 4, (1, 2, 3, 4), mil_types.fp32, None


def declarations():
    """Name, iOS version and class of every operation of coremltools."""
    for name, versions in SSAOpRegistry.core_ops.items():
        for ios, target in TARGETS.items():
            if target in versions:
                yield name, ios, versions[target]


def inputs_of(declaration):
    return {k: v for k, v in declaration.input_spec.input_types.items() if k not in BLOCKS}


def defaults_of(declaration):
    operation = object.__new__(declaration)
    for key in declaration.input_spec.input_types:
        object.__setattr__(operation, key, Stand)
    return dict(declaration.default_inputs(operation).items())


def test_every_operation_of_coremltools_is_in_the_table_or_refused():
    names = {name for name, _, _ in declarations()}
    assert names - INTERNAL - LOADED == (set(OPS) - ONLY_SAVED) | set(REFUSED)
    assert not set(OPS) & set(REFUSED)


def test_refusals_say_why():
    assert all(len(reason) > 20 for reason in REFUSED.values())
    assert {n for n in REFUSED if n.startswith("random_")} == {
        "random_bernoulli",
        "random_categorical",
        "random_normal",
        "random_uniform",
    }


def test_refused_operation_is_named_with_its_reason():
    def body(x):
        return mb.add(x=x, y=mb.random_normal(shape=[2, 3], seed=1))

    with pytest.raises(PackageError, match=r"random_normal.*random results cannot be reproduced"):
        run(body, floats(2, 3))


@pytest.mark.parametrize("name", sorted(set(OPS) - ONLY_SAVED))
def test_parameters_are_those_of_every_opset(name):
    ours = OPS[name].parameters
    versions = [inputs_of(d) for candidate, _, d in declarations() if candidate == name]
    assert set(ours) == {key for inputs in versions for key in inputs}
    for key, parameter in ours.items():
        required = [not inputs[key].optional for inputs in versions if key in inputs]
        if (name, key) in VERSIONED:
            assert any(required), "the exception is not needed"
            assert len(versions) > len(required), "the exception is not needed"
            assert not parameter.required
        else:
            assert [parameter.required] * len(required) == required


@pytest.mark.parametrize("name", sorted(set(OPS) - ONLY_SAVED))
def test_defaults_are_those_of_every_opset(name):
    for candidate, ios, declaration in declarations():
        if candidate != name:
            continue
        theirs = defaults_of(declaration)
        for key, spec in inputs_of(declaration).items():
            if not spec.optional:
                continue
            ours = OPS[name].parameters[key].default
            if (name, key) in IN_THE_FUNCTION:
                assert (theirs[key], ours) == (IN_THE_FUNCTION[name, key], None)
            elif key in DERIVED:
                assert ours is None, ios
            elif (name, key) in DOCUMENTED:
                assert (theirs.get(key), ours) == (None, DOCUMENTED[name, key])
            elif (name, key) == ("linear", "bias"):
                assert (theirs[key].any(), ours) == (False, None)  # zeros, one per output
            else:
                assert ours == theirs.get(key), (ios, key)


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
