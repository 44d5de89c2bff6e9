"""The committed golden files are what their functions give today."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kokoro_coreml.cli import exit_codes
from kokoro_coreml.goldens import functions, read_index
from kokoro_coreml.goldens.arrays import array, content
from kokoro_coreml.goldens.files import INDEX_NAME, VOCABULARY_NAME, index_text, text_of
from kokoro_coreml.goldens.files import vocabulary_text as vocabulary
from kokoro_coreml.goldens.inputs import BREATHS, config, suite_phonemes
from kokoro_coreml.goldens.sounds import Sound
from kokoro_coreml.goldens.styles import pack
from kokoro_coreml.parity.metrics import AUDIO_METRICS
from kokoro_coreml.parity.results import CAP

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "artifacts" / "goldens"
AGAIN = "run kokoro-coreml goldens --force, and tell the Swift package's tests"
MOST_BYTES = 1_500_000


def committed(name):
    return (FOLDER / name).read_text(encoding="utf-8")


def files():
    """Beside them lies the folder of the recordings, with an index of its own."""
    return [path for path in FOLDER.iterdir() if path.is_file()]


def cases(name):
    return json.loads(committed(f"{name}.json"))["cases"]


def apart(found, expected):
    """Largest difference of two JSON values; infinite where they differ in anything but numbers."""
    if isinstance(found, dict) and found.keys() == {"f32le"} == expected.keys():
        a, b = array(found).astype(np.float64), array(expected).astype(np.float64)
        return float(np.max(np.abs(a - b), initial=0.0)) if a.shape == b.shape else math.inf
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        return max((apart(found[key], expected[key]) for key in found), default=0.0)
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return max(map(apart, found, expected), default=0.0)
    if isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected)
    return 0.0 if found == expected and type(found) is type(expected) else math.inf


@pytest.mark.parametrize("function", functions(), ids=lambda f: f.name)
def test_a_function_gives_again_what_is_committed(function):
    again, before = text_of(function), committed(f"{function.name}.json")
    if function.tolerance == 0:
        assert again == before, AGAIN
    else:
        assert json.loads(before)["tolerance"] == function.tolerance
        assert apart(json.loads(again), json.loads(before)) <= function.tolerance, AGAIN


def test_the_measure_of_the_test_above_sees_every_difference():
    one = {"a": [1.0, {"f32le": "AACAPw=="}], "b": "x"}
    assert apart(one, json.loads(json.dumps(one))) == 0.0
    assert apart(one, {"a": [1.0, {"f32le": "AAAAPw=="}], "b": "x"}) == 0.5
    assert apart(one, {"a": [1.25, {"f32le": "AACAPw=="}], "b": "x"}) == 0.25
    for other in ({"a": [1.0], "b": "x"}, {"a": one["a"]}, one | {"b": "y"}, one | {"b": 1}):
        assert apart(one, other) == math.inf
    assert (
        apart(1, 1.0) == apart(True, 1) == apart({"f32le": ""}, {"f32le": "AACAPw=="}) == math.inf
    )


def test_the_index_names_every_file_and_its_digest():
    index = read_index(FOLDER)
    found = {path.name: path.read_bytes() for path in files() if path.name != INDEX_NAME}
    assert index["files"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in found.items()
    }
    assert found.keys() == {VOCABULARY_NAME, *(f"{f.name}.json" for f in functions())}
    assert committed(INDEX_NAME) == index_text({k: v.decode("utf-8") for k, v in found.items()})


def test_the_vocabulary_is_that_of_the_configuration():
    assert committed(VOCABULARY_NAME) == vocabulary()
    assert json.loads(vocabulary()) == config().raw["vocab"]


def test_the_folder_is_small():
    assert sum(path.stat().st_size for path in files()) < MOST_BYTES


def test_there_are_as_many_cases_as_asked_for():
    counts = {f.name: len(cases(f.name)) for f in functions()}
    assert counts.pop("manifests") >= 150
    assert sum(counts.values()) >= 500
    assert min(counts.values()) >= 25


def test_every_case_stands_on_its_own_line():
    for function in functions():
        head, *lines, tail, end = committed(f"{function.name}.json").split("\n")
        assert json.loads(head + "]}") == {
            "schema": 1,
            "function": function.name,
            "tolerance": function.tolerance,
            "cases": [],
        }
        assert (tail, end) == ("]}", "")
        assert [json.loads(line.removesuffix(",")) for line in lines] == cases(function.name)


def test_every_error_has_a_documented_code_and_says_something():
    codes = exit_codes()
    titles = {}
    for function in functions():
        for case in cases(function.name):
            assert case.keys() in ({"id", "input", "output"}, {"id", "input", "error"})
            if "error" in case:
                error = case["error"]
                assert error["code"] in codes
                titles.setdefault(error["code"], set()).add(error["title"])
                assert error["contains"]
                assert all(len(part) > 2 for part in error["contains"]), case["id"]
    assert titles == {
        4: {"checkpoint"},
        6: {"voice"},
        7: {"phonemes"},
        10: {"parity"},
        11: {"bundle"},
    }


def test_texts_are_of_every_kind():
    strings = {case["input"]["phonemes"] for case in cases("tokenizer")}
    assert strings >= set(suite_phonemes().values())
    assert {"", " "} <= strings
    assert {510, 511} <= {len(text) for text in strings}
    every = "".join(strings)
    assert all(breath in every for breath in BREATHS)
    for odd in (
        "\N{COMBINING TILDE}",
        "\N{COMBINING ACUTE ACCENT}",
        "\N{SPEAKING HEAD IN SILHOUETTE}",
    ):
        assert odd in every
    split = [case for case in cases("splitting") if "output" in case]
    assert any(len(case["output"]["parts"]) == 1 for case in split)
    assert any(len(case["output"]["parts"]) > 4 for case in split)
    assert any(
        " " not in case["input"]["phonemes"] for case in cases("splitting") if "error" in case
    )


def test_the_formula_of_a_pack_is_what_the_documentation_says():
    made = pack(4_000_000_000)
    for row, column in ((0, 0), (0, 1), (1, 0), (509, 255), (300, 77)):
        hashed = (row * 256 + column + 4_000_000_000) * 2_654_435_761 % 2**32
        assert made[row, column] == np.float32(hashed / 2**32 - 0.5)


def test_a_row_is_that_of_its_pack():
    found = [case for case in cases("voices") if "output" in case]
    for case in found:
        count = case["input"]["phoneme_count"]
        expected = pack(case["input"]["seed"])[count - 1]
        np.testing.assert_array_equal(array(case["output"]["row"]), expected)
    assert len(found) > 30


def test_the_noise_is_that_of_the_system_s_own_mathematics():
    """numpy has logarithm, sine and cosine of its own; another language has the system's."""
    compared = 0
    for case in cases("noise"):
        seed, count, skip = (case["input"][key] for key in ("seed", "count", "skip"))
        if skip > 5_000:
            continue
        found = array(case["output"]["samples"]).astype(np.float64)
        expected = own_noise(seed, skip + count)[skip:]
        assert len(found) == count
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-7)
        compared += count
    assert compared > 1_000


def own_noise(seed, count):
    pairs = (count + 1) // 2
    words = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)).random_raw(2 * pairs)
    uniform = [((int(word) >> 11) + 0.5) * 2.0**-53 for word in words]
    made = []
    for first, second in zip(uniform[::2], uniform[1::2], strict=True):
        radius, angle = math.sqrt(-2.0 * math.log(first)), 2.0 * math.pi * second
        made += [radius * math.cos(angle), radius * math.sin(angle)]
    return made[:count]


def test_an_alignment_has_a_token_wherever_its_mask_says_so():
    for case in cases("alignment"):
        token, mask = (array(case["output"][key]) for key in ("alignment", "mask"))
        durations, frames = case["input"]["durations"], case["input"]["frames"]
        expected = np.repeat(np.arange(len(durations)), durations)[:frames]
        np.testing.assert_array_equal(token[: len(expected)], expected)
        np.testing.assert_array_equal(mask, np.arange(frames) < len(expected))
        assert np.all(token[len(expected) :] == -1)


def test_a_wav_file_is_the_least_there_is():
    for case in cases("wav"):
        if "output" in case:
            count = len(array(case["input"]["samples"]))
            data = content(case["output"]["bytes"])
            assert len(data) == 44 + 2 * count
            assert data[:4] + data[8:16] == b"RIFFWAVEfmt "


def test_the_documentation_describes_every_function():
    text = (ROOT / "docs" / "goldens.md").read_text(encoding="utf-8")
    for function in functions():
        assert f"| `{function.name}` |" in text, function.name


def test_pitches_and_distances_are_of_every_kind():
    heard = [case["output"]["hz"] for case in cases("pitch")]
    assert sum(all(value is None for value in hz) for hz in heard) >= 3
    assert sum(None in hz and any(hz) for hz in heard) >= 5
    found = {name: set() for name in AUDIO_METRICS}
    for case in cases("audio_metrics"):
        for name, value in case["output"].items():
            found[name].add(value)
    for name, values in found.items():
        assert len(values) >= 4, name
    assert {CAP, -CAP} <= found["audio_snr_db"]
    assert any(0 < value < 100 for value in found["gross_pitch_errors_percent"])


def test_a_sound_is_what_its_formula_says():
    sound = Sound(3, hertz=100.0, glide=2.0, gain=0.5, noise=0.25, seed=7, rate=1000)
    words = []
    for place in range(3):
        word = (place + 7) * 2_654_435_761 % 2**32
        word = (word ^ word >> 16) * 2_246_822_519 % 2**32
        words.append((word ^ word >> 13) / 2**32 - 0.5)
    turns = [0.0, 0.1 + 0.001, 0.2 + 0.004]
    expected = [0.5 * (4 * abs(t - 0.5) - 1) + 0.25 * h for t, h in zip(turns, words, strict=True)]
    np.testing.assert_allclose(sound.samples(), expected, rtol=1e-6)
    changed = replace(sound, changes={"1": "nan", "2": "-0.5"}).samples()
    assert np.isnan(changed[1])
    assert changed[2] == -0.5
    noise = Sound(24_000, gain=0.0, noise=1.0).samples()
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.std()) == pytest.approx(1 / math.sqrt(12), rel=0.02)
