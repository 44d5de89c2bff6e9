from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import VoiceError
from kokoro_coreml.voices import (
    VoicePack,
    expected_shape,
    load_voice,
    parse_blend,
    shipped_voices,
)
from tests.support.tiny import tiny_config

FOLDER = Path(__file__).parent / "suites" / "voices"
RANDOM = np.random.default_rng(0).standard_normal((510, 256)).astype(np.float32)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
WEIGHTS = st.floats(min_value=1e-3, max_value=1e3)


def write(path: Path, array: np.ndarray[Any, Any]) -> Path:
    if path.suffix == ".pt":
        torch.save(torch.from_numpy(array.copy()), path)
    elif path.suffix == ".bin":
        path.write_bytes(array.astype("<f4").tobytes())
    elif path.suffix == ".npz":
        np.savez(path, voice=array)
    else:
        save_file({"voice": torch.from_numpy(array.copy())}, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".npz", ".safetensors"])
@pytest.mark.parametrize("shape", [(510, 1, 256), (510, 256)])
def test_every_format_and_shape_gives_the_same_pack(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    path = write(tmp_path / f"mine{suffix}", RANDOM.reshape(shape))
    voice = load_voice(path)
    assert voice.name == "mine"
    assert voice.data.dtype == np.float32
    assert np.array_equal(voice.data, RANDOM)
    assert voice.sha256 == hashlib.sha256(RANDOM.tobytes()).hexdigest()
    assert load_voice(str(path)).sha256 == voice.sha256


def test_the_shipped_voice_is_af_heart_with_its_licence() -> None:
    assert shipped_voices() == ("af_heart",)
    voice = load_voice("af_heart")
    assert voice.data.shape == (510, 256)
    assert voice.license == "Apache-2.0"


@pytest.mark.parametrize("name", ["am_michael", "ff_siwis", "em_alex"])
def test_names_are_found_in_search_folders(name: str) -> None:
    voice = load_voice(name, search=[FOLDER])
    raw = (FOLDER / f"{name}.bin").read_bytes()
    assert voice.sha256 == hashlib.sha256(raw).hexdigest()


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(VoiceError, match="nobody: unknown; available here: af_heart, am_michael"):
        load_voice("nobody", search=[FOLDER])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "v.bin", RANDOM)
    write(tmp_path / "v.npz", RANDOM)
    with pytest.raises(VoiceError, match=r"found several \(v\.bin, v\.npz\)"):
        load_voice("v", search=[tmp_path])


def test_row_belongs_to_the_number_of_phonemes() -> None:
    voice = load_voice("af_heart")
    assert np.array_equal(voice.row(1), voice.data[:1])
    assert np.array_equal(voice.row(510), voice.data[509:])
    assert voice.row(94).shape == (1, 256)


@pytest.mark.parametrize("count", [-1, 0, 511])
def test_row_outside_the_pack_is_refused(count: int) -> None:
    with pytest.raises(VoiceError, match=rf"1 to 510 phonemes, asked for {count}"):
        load_voice("af_heart").row(count)


def test_a_pack_cannot_be_changed() -> None:
    voice = load_voice("af_heart")
    with pytest.raises(ValueError, match="read-only"):
        voice.data[0, 0] = 1.0
    with pytest.raises(FrozenInstanceError):
        voice.name = "x"  # type: ignore[misc]
    voice.row(1)[0, 0] = 5.0
    assert voice.row(1)[0, 0] != 5.0


def test_write_bin_is_read_back_bit_by_bit(tmp_path: Path) -> None:
    voice = load_voice("am_michael", search=[FOLDER])
    voice.write_bin(tmp_path / "copy.bin")
    raw = (tmp_path / "copy.bin").read_bytes()
    assert raw == (FOLDER / "am_michael.bin").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == voice.sha256


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
@pytest.mark.parametrize("shape", [(510, 128), (511, 1, 256), (256, 510), (1, 510, 256)])
def test_wrong_shape_names_found_and_expected(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    path = write(tmp_path / f"v{suffix}", np.zeros(shape, np.float32))
    with pytest.raises(VoiceError, match=r"expected shape \[510, 1, 256\].*found \[") as error:
        load_voice(path)
    assert str(list(shape)) in str(error.value)


def test_wrong_size_of_raw_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.bin").write_bytes(b"\0" * 522_236)
    with pytest.raises(VoiceError, match=r"expected 522240 bytes .* found 522236"):
        load_voice(tmp_path / "v.bin")


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".npz", ".safetensors"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, suffix: str, bad: float) -> None:
    array = RANDOM.copy()
    array[7, 7] = bad
    with pytest.raises(VoiceError, match="1 of 130560 values are NaN or infinite"):
        load_voice(write(tmp_path / f"v{suffix}", array))


def test_integers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="expected floating point, found int32"):
        load_voice(write(tmp_path / "v.npz", np.zeros((510, 256), np.int32)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(RANDOM).to(dtype)
    torch.save(tensor, tmp_path / "v.pt")
    assert np.array_equal(load_voice(tmp_path / "v.pt").data, tensor.float().numpy())


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".npz", ".safetensors"])
@pytest.mark.parametrize("data", [b"", b"not a voice", b"PK\x03\x04" + b"\0" * 99])
def test_foreign_files_are_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"v{suffix}").write_bytes(data)
    with pytest.raises(VoiceError, match="voice v"):
        load_voice(tmp_path / f"v{suffix}")


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"v{suffix}", RANDOM)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(VoiceError, match="truncated"):
        load_voice(path)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_pickled_code_is_refused_and_never_run(tmp_path: Path) -> None:
    torch.save(Bomb(tmp_path / "exploded"), tmp_path / "v.pt")
    np.savez(tmp_path / "v.npz", voice=np.array([Bomb(tmp_path / "exploded")], dtype=object))
    for name in ("v.pt", "v.npz"):
        with pytest.raises(VoiceError):
            load_voice(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_one_of_several_arrays_is_chosen_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"many{suffix}"
    arrays = {"one": RANDOM, "two": RANDOM * 2}
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({k: torch.from_numpy(v) for k, v in arrays.items()}, path)
    voice = load_voice(f"{path}:two")
    assert voice.name == "two"
    assert np.array_equal(voice.data, RANDOM * 2)
    with pytest.raises(VoiceError, match=r"holds 2 arrays \(one, two\)"):
        load_voice(path)
    with pytest.raises(VoiceError, match="holds no 'three'; it holds one, two"):
        load_voice(f"{path}:three")


def test_the_expected_shape_follows_the_configuration(tmp_path: Path) -> None:
    raw = tiny_config()
    raw["plbert"]["max_position_embeddings"] = 34
    config = ModelConfig.from_dict(raw)
    assert expected_shape(config) == (32, 256)
    with pytest.raises(VoiceError, match="expected 32768 bytes"):
        load_voice("af_heart", config=config)
    write(tmp_path / "v.bin", RANDOM[:32])
    assert load_voice(tmp_path / "v.bin", config=config).data.shape == (32, 256)


def test_a_blend_is_the_weighted_sum_of_its_voices() -> None:
    a, b = load_voice("af_heart"), load_voice("am_michael", search=[FOLDER])
    mixed = load_voice("af_heart*0.6 + am_michael*0.4", search=[FOLDER])
    np.testing.assert_allclose(mixed.data, 0.6 * a.data + 0.4 * b.data, rtol=1e-5, atol=1e-6)
    assert mixed.name == "af_heart*0.6+am_michael*0.4"
    assert mixed.license == "unknown", "one of the two has no stated licence"


def test_a_blend_without_weights_is_the_mean_and_ratios_are_normalised() -> None:
    even = load_voice("af_heart+am_michael", search=[FOLDER])
    ratio = load_voice("af_heart*3+am_michael*3", search=[FOLDER])
    assert even.sha256 == ratio.sha256
    assert even.name == "af_heart*0.5+am_michael*0.5"


def test_a_blend_takes_paths_and_a_weighted_single_voice_is_that_voice(tmp_path: Path) -> None:
    path = write(tmp_path / "v.npz", RANDOM)
    a = load_voice("af_heart")
    mixed = load_voice(f"{path}*1+af_heart*1")
    np.testing.assert_allclose(mixed.data, (RANDOM + a.data) / 2, rtol=1e-5, atol=1e-6)
    assert load_voice("af_heart*0.3") == a


@pytest.mark.parametrize(
    "spec",
    [
        "", " ", "+", "a+", "+a", "a++b", "a*", "a*+b", "a*x", "a*0+b*1", "a*-1+b*2", "a*nan+b*1",
        "a*inf+b*1", "a*0.5+b", "a+a", "a*0.5*2", "*0.5", "a*1e308+b*1e308", "a*1e-308+b*1e308",
    ],
)  # fmt: skip
def test_blends_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(VoiceError, match="voice "):
        parse_blend(spec)


@pytest.mark.parametrize("spec", ["../x", "a b", "voice.wav", "/no/such.bin", "no.pt"])
def test_specs_that_are_no_voice_are_refused(spec: str) -> None:
    with pytest.raises(VoiceError, match="voice "):
        load_voice(spec)


@given(st.dictionaries(NAMES, WEIGHTS, min_size=1, max_size=5))
def test_any_well_formed_blend_is_parsed_and_normalised(terms: dict[str, float]) -> None:
    spec = "+".join(f"{name}*{weight!r}" for name, weight in terms.items())
    parsed = dict(parse_blend(spec))
    total = sum(terms.values())
    assert list(parsed) == list(terms)
    assert math.isclose(sum(parsed.values()), 1.0)
    assert all(math.isclose(parsed[n], w / total, rel_tol=1e-9) for n, w in terms.items())


@given(st.text(alphabet="ab*+ .-e019", max_size=14))
def test_any_text_is_parsed_to_weights_of_one_or_refused(spec: str) -> None:
    try:
        parsed = parse_blend(spec)
    except VoiceError:
        return
    assert math.isclose(sum(weight for _, weight in parsed), 1.0)
    assert all(name.strip() == name and name and weight > 0 for name, weight in parsed)


def test_of_is_where_every_pack_is_checked() -> None:
    with pytest.raises(VoiceError, match="expected shape"):
        VoicePack.of("x", np.zeros((2, 2)), "unknown", config=None)


def test_a_weight_may_have_a_signed_exponent():
    assert parse_blend("a*1e+3+b*1E+3") == (("a", 0.5), ("b", 0.5))
    assert parse_blend("a*3e-1+b*1e-1") == parse_blend("a*0.3+b*0.1")
    with pytest.raises(VoiceError, match="'1e' is not a weight"):
        parse_blend("a*1e+b*1")


def test_weights_are_added_from_left_to_right():
    """As other languages add; compensated, the sum would be 1e16 + 2."""
    shares = dict(parse_blend("a*1e16+b*1+c*1"))
    assert shares["a"] == 1.0
    assert shares["b"] == 1e-16
