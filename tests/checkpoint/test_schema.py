from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kokoro_coreml.checkpoint import PARTS
from kokoro_coreml.checkpoint.schema import build_parts, canonical, expected_shapes
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import CheckpointError
from tests.support.tiny import tiny_checkpoint, tiny_config

CONFIG = ModelConfig.from_dict(tiny_config())
State = dict[str, dict[str, Tensor]]


@pytest.fixture
def state() -> State:
    return {part: dict(sub) for part, sub in tiny_checkpoint().state.items()}


def check(state: State, config: ModelConfig = CONFIG) -> tuple[State, tuple[str, ...]]:
    result, notes = canonical(state, config, source="weights.pth")
    return {part: dict(sub) for part, sub in result.items()}, notes


def assert_same(left: State, right: State) -> None:
    assert left.keys() == right.keys()
    for part in left:
        assert left[part].keys() == right[part].keys()
        for key, value in left[part].items():
            assert torch.equal(value, right[part][key]), f"{part}.{key}"


def test_the_canonical_form_is_a_fixed_point(state: State) -> None:
    assert_same(check(state)[0], state)


def test_the_canonical_form_is_float32_contiguous_and_without_prefix(state: State) -> None:
    for sub in check(state)[0].values():
        for key, value in sub.items():
            assert value.dtype == torch.float32
            assert value.is_contiguous()
            assert not key.startswith("module.")


def test_upstreams_classes_load_it_and_lack_only_unused_tensors(state: State) -> None:
    for part, module in build_parts(CONFIG).items():
        result = module.load_state_dict(state[part], strict=False)
        assert result.unexpected_keys == []
        assert all(".norm." in key or "pooler" in key for key in result.missing_keys)


def test_prefix_module_is_accepted(state: State) -> None:
    prefixed = {p: {f"module.{k}": v for k, v in s.items()} for p, s in state.items()}
    assert_same(check(prefixed)[0], state)


def test_parametrized_weight_norm_is_accepted(state: State) -> None:
    def rename(key: str) -> str:
        key = key.replace("weight_g", "parametrizations.weight.original0")
        return key.replace("weight_v", "parametrizations.weight.original1")

    renamed = {p: {rename(k): v for k, v in s.items()} for p, s in state.items()}
    assert "parametrizations" in " ".join(renamed["decoder"])
    assert_same(check(renamed)[0], state)


def test_folded_weight_norm_gives_back_the_folded_weight(state: State) -> None:
    g, v = (
        state["decoder"].pop("encode.conv1.weight_g"),
        state["decoder"].pop("encode.conv1.weight_v"),
    )
    weight = torch._weight_norm(v, g, 0)
    weight[3] = 0.0
    state["decoder"]["encode.conv1.weight"] = weight
    result = check(state)[0]["decoder"]
    again = torch._weight_norm(result["encode.conv1.weight_v"], result["encode.conv1.weight_g"], 0)
    torch.testing.assert_close(again, weight, rtol=1e-6, atol=0.0)
    assert float(result["encode.conv1.weight_g"][3]) == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_become_float32(state: State, dtype: torch.dtype) -> None:
    given = {p: {k: v.to(dtype) for k, v in s.items()} for p, s in state.items()}
    result = check(given)[0]
    key = "lstm.weight_ih_l0"
    assert result["text_encoder"][key].dtype == torch.float32
    assert torch.equal(result["text_encoder"][key], given["text_encoder"][key].float())


def test_pooler_and_index_buffers_are_left_out_and_said(state: State) -> None:
    expected = {part: dict(sub) for part, sub in state.items()}
    state["bert"]["pooler.weight"] = torch.ones(2, 2)
    state["bert"]["embeddings.position_ids"] = torch.arange(512)[None]
    result, notes = check(state)
    assert_same(result, expected)
    assert any("pooler" in note for note in notes)


def test_identity_affine_of_adain_is_left_out(state: State) -> None:
    expected = {part: dict(sub) for part, sub in state.items()}
    channels = state["decoder"]["encode.norm1.fc.weight"].shape[0] // 2
    state["decoder"]["encode.norm1.norm.weight"] = torch.ones(channels)
    state["decoder"]["encode.norm1.norm.bias"] = torch.zeros(channels)
    assert_same(check(state)[0], expected)


def test_trained_affine_of_adain_is_kept_under_upstreams_keys(state: State) -> None:
    prefix = "encode.norm1."
    channels = state["decoder"][prefix + "fc.weight"].shape[0] // 2
    torch.manual_seed(1)
    state["decoder"][prefix + "norm.weight"] = torch.randn(channels)
    expected = dict(state["decoder"])
    result, _ = check(state)
    assert torch.equal(result["decoder"][prefix + "norm.weight"], expected[prefix + "norm.weight"])
    assert torch.equal(result["decoder"][prefix + "norm.bias"], torch.zeros(channels))
    assert torch.equal(result["decoder"][prefix + "fc.weight"], expected[prefix + "fc.weight"])


def test_affine_without_an_adain_is_refused(state: State) -> None:
    state["decoder"]["nowhere.norm.weight"] = torch.ones(4)
    with pytest.raises(CheckpointError, match=r"decoder\.nowhere\.norm"):
        check(state)


def test_missing_key_is_named_with_its_shape(state: State) -> None:
    del state["predictor"]["F0.1.conv1.bias"]
    with pytest.raises(CheckpointError, match=r"predictor\.F0\.1\.conv1\.bias: missing.*\[256\]"):
        check(state)


def test_unexpected_key_suggests_the_close_one(state: State) -> None:
    state["predictor"]["F0_prj.bias"] = state["predictor"].pop("F0_proj.bias")
    with pytest.raises(CheckpointError, match=r"F0_prj\.bias: unexpected.*did you mean F0_proj"):
        check(state)


def test_wrong_shape_is_named_with_expected_and_found(state: State) -> None:
    state["bert_encoder"]["weight"] = torch.zeros(512, 47)
    with pytest.raises(CheckpointError, match=r"bert_encoder\.weight: expected.*48\].*47\]"):
        check(state)


def test_integers_are_refused(state: State) -> None:
    state["bert_encoder"]["bias"] = torch.zeros(512, dtype=torch.int32)
    with pytest.raises(CheckpointError, match=r"bert_encoder\.bias: expected floating point"):
        check(state)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(state: State, bad: float) -> None:
    state["bert_encoder"]["bias"] = torch.full((512,), bad)
    with pytest.raises(CheckpointError, match=r"bert_encoder\.bias: 512 of 512 values are NaN"):
        check(state)


def test_float64_that_overflows_float32_is_refused(state: State) -> None:
    state["bert_encoder"]["bias"] = torch.full((512,), 1e300, dtype=torch.float64)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        check(state)


def test_a_direction_of_zeros_is_refused(state: State) -> None:
    state["decoder"]["encode.conv1.weight_v"] = torch.zeros(1024, 514, 3)
    with pytest.raises(CheckpointError, match=r"encode\.conv1\.weight_v: row 0 is all zeros"):
        check(state)


def test_missing_and_foreign_parts_are_named(state: State) -> None:
    state["wavlm"] = state.pop("bert")
    with pytest.raises(CheckpointError, match=r"(?s)wavlm: not a part.*bert: missing"):
        check(state)


def test_key_given_twice_is_refused(state: State) -> None:
    state["bert_encoder"]["module.bias"] = state["bert_encoder"]["bias"]
    with pytest.raises(CheckpointError, match=r"bert_encoder\.bias: given twice"):
        check(state)


def test_config_of_another_size_lists_the_first_and_counts_the_rest(state: State) -> None:
    other = tiny_config()
    other["plbert"]["hidden_size"] = 64
    other["n_layer"] = 3
    with pytest.raises(CheckpointError, match=r"(?s)\d+ problems.*expected.*found.*and \d+ more"):
        check(state, ModelConfig.from_dict(other))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("plbert", "hidden_act", "nope"), ("istftnet", "resblock_dilation_sizes", [[1], [1]])],
)
def test_config_upstream_refuses_is_an_error_of_the_config(
    section: str, key: str, value: Any
) -> None:
    other = tiny_config()
    other[section][key] = value
    with pytest.raises(CheckpointError, match=r"config\.json: upstream's network cannot be built"):
        expected_shapes(ModelConfig.from_dict(other))


def test_schema_names_every_part() -> None:
    assert tuple(expected_shapes(CONFIG)) == PARTS
