from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import CheckpointError
from tests.support.tiny import tiny_config

SIZES = ("hidden_dim", "style_dim", "n_layer", "n_token", "n_mels", "max_dur")
PLBERT = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")
LISTS = ("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes")
NOT_A_SIZE = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.integers(max_value=0), st.floats(),
    st.lists(st.integers(), max_size=2),
)  # fmt: skip


def real() -> ModelConfig:
    file = resources.files("kokoro_coreml") / "data" / "kokoro-82m.config.json"
    return ModelConfig.from_json(file.read_bytes())


def test_units_of_the_82m_checkpoint_follow_from_its_config() -> None:
    config = real()
    assert (config.upsample_scale, config.samples_per_frame) == (300, 600)
    assert (config.columns_per_frame, config.max_phonemes) == (120, 510)
    assert (config.n_token, len(config.vocab), config.hidden_dim) == (178, 114, 512)


def test_units_of_another_network_follow_from_its_config() -> None:
    config = ModelConfig.from_dict(tiny_config())
    assert (config.upsample_scale, config.samples_per_frame) == (16, 32)
    assert config.columns_per_frame == 16


def test_the_json_object_is_kept_whole() -> None:
    raw = tiny_config()
    assert ModelConfig.from_json(json.dumps(raw)).raw == raw


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", "{'a': 1}"])
def test_text_that_is_no_json_object_is_refused(text: bytes | str) -> None:
    with pytest.raises(CheckpointError, match=r"mine\.json: "):
        ModelConfig.from_json(text, source="mine.json")


@pytest.mark.parametrize("key", [*SIZES, "text_encoder_kernel_size", "istftnet", "plbert", "vocab"])
def test_missing_key_is_named(key: str) -> None:
    raw = tiny_config()
    del raw[key]
    with pytest.raises(CheckpointError, match=key):
        ModelConfig.from_dict(raw)


@pytest.mark.parametrize(
    ("section", "key"), [*(("plbert", k) for k in PLBERT), *(("istftnet", k) for k in LISTS)]
)
def test_missing_key_of_a_section_is_named(section: str, key: str) -> None:
    raw = tiny_config()
    del raw[section][key]
    with pytest.raises(CheckpointError, match=key):
        ModelConfig.from_dict(raw)


@given(key=st.sampled_from(SIZES), value=NOT_A_SIZE)
def test_a_size_is_a_whole_number_above_zero(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=key):
        ModelConfig.from_dict(tiny_config() | {key: value})


@given(key=st.sampled_from(PLBERT), value=NOT_A_SIZE)
def test_a_size_of_plbert_is_a_whole_number_above_zero(key: str, value: Any) -> None:
    raw = tiny_config()
    raw["plbert"][key] = value
    with pytest.raises(CheckpointError, match=key):
        ModelConfig.from_dict(raw)


@given(key=st.sampled_from(LISTS), value=st.one_of(NOT_A_SIZE, st.lists(st.just(0), min_size=1)))
def test_lists_hold_whole_numbers_above_zero(key: str, value: Any) -> None:
    if isinstance(value, list) and value and all(isinstance(v, int) and v > 0 for v in value):
        return
    raw = tiny_config()
    raw["istftnet"][key] = value
    with pytest.raises(CheckpointError, match=key):
        ModelConfig.from_dict(raw)


@pytest.mark.parametrize(
    ("key", "value"),
    [("upsample_rates", [4, 2, 2]), ("resblock_kernel_sizes", [3]), ("upsample_kernel_sizes", [8])],
)
def test_lists_that_belong_together_have_one_length(key: str, value: list[int]) -> None:
    raw = tiny_config()
    raw["istftnet"][key] = value
    with pytest.raises(CheckpointError, match="entries but"):
        ModelConfig.from_dict(raw)


@pytest.mark.parametrize("vocab", [{}, {"a": -1}, {"a": "1"}, {"a": True}, {"a": 1.5}, [1], None])
def test_vocabulary_maps_phonemes_to_ids(vocab: Any) -> None:
    with pytest.raises(CheckpointError, match="vocab"):
        ModelConfig.from_dict(tiny_config() | {"vocab": vocab})


def test_an_id_beyond_the_embedding_is_refused() -> None:
    with pytest.raises(CheckpointError, match="vocab holds id 178, but n_token is 178"):
        ModelConfig.from_dict(tiny_config() | {"vocab": {"a": 178}})


@given(st.dictionaries(st.text(max_size=2), st.integers(0, 177), min_size=1))
def test_any_vocabulary_within_the_embedding_is_kept(vocab: dict[str, int]) -> None:
    assert ModelConfig.from_dict(tiny_config() | {"vocab": vocab}).vocab == vocab
