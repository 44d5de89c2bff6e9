"""Suites are read strictly, and the two that come with the project are what they promise."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.config import BOUNDARY_TOKENS, ModelConfig
from kokoro_coreml.errors import RecipeError, VoiceError
from kokoro_coreml.parity.suite import (
    Suite,
    SuiteCase,
    SuiteError,
    load_suite,
    parse_suite,
    suite_names,
    suite_voice,
    suite_voices_folder,
)
from kokoro_coreml.resources import data_file, suites_folder
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import load_voice, parse_blend, shipped_voices

SHIPPED = ("full", "smoke")

CASE = {
    "id": "one",
    "language": "en-us",
    "text": "Yes.",
    "phonemes": "jˈɛs.",
    "voice": "af_heart",
}


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    raw = data_file("kokoro-82m.config.json").read_bytes()
    return ModelConfig.from_json(raw, source="config.json")


def suite_of(*cases: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "mine", "description": "a test's", "cases": list(cases)}


def parse(*cases: Mapping[str, Any]) -> Suite:
    return parse_suite(suite_of(*cases), document="mine.toml")


def voices_of(suite: Suite) -> set[str]:
    return {name for case in suite.cases for name, _ in parse_blend(case.voice)}


def test_the_suites_that_come_with_the_project() -> None:
    assert suite_names() == sorted(SHIPPED)
    for name in SHIPPED:
        assert load_suite(name).name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_every_phoneme_is_in_the_vocabulary(name: str, config: ModelConfig) -> None:
    vocabulary = Vocabulary.from_config(config)
    for case in load_suite(name).cases:
        assert len(vocabulary.encode(case.phonemes)) == len(case.phonemes) + BOUNDARY_TOKENS


@pytest.mark.parametrize("name", SHIPPED)
def test_every_voice_is_at_hand_and_has_a_row_for_the_phonemes(
    name: str, config: ModelConfig
) -> None:
    for case in load_suite(name).cases:
        row = suite_voice(case, config).row(len(case.phonemes))
        assert row.shape == (1, 2 * config.style_dim)
        assert np.all(np.isfinite(row))


def test_smoke_fits_the_bucket_of_the_default_recipe_to_the_last_token() -> None:
    suite = load_suite("smoke")
    sizes = [len(case.phonemes) + BOUNDARY_TOKENS for case in suite.cases]
    assert (min(sizes), max(sizes)) == (BOUNDARY_TOKENS + 1, 128)
    assert len(suite.cases) <= 8
    assert len(voices_of(suite)) >= 4
    assert len({case.language for case in suite.cases}) >= 3
    assert {case.speed > 1 for case in suite.cases} == {True, False}
    assert min(case.speed for case in suite.cases) < 1
    assert any("+" in case.voice for case in suite.cases)
    assert any(case.recognise for case in suite.cases)


def test_full_covers_lengths_voices_languages_speeds_and_blends() -> None:
    suite = load_suite("full")
    sizes = {len(case.phonemes) for case in suite.cases}
    assert (min(sizes), max(sizes)) == (1, 510)
    # one below, at and above what a bucket of 64, 128 or 256 tokens holds
    assert {62, 63, 125, 126, 127, 254, 256} <= sizes
    assert len(suite.cases) >= 40
    assert len(voices_of(suite)) >= 7
    assert len({case.language for case in suite.cases}) >= 5
    assert {0.5, 0.7, 1.0, 1.3, 2.0} <= {case.speed for case in suite.cases}
    assert {2, 3} <= {len(parse_blend(case.voice)) for case in suite.cases}


def test_the_voices_folder_holds_what_the_suites_use_and_nothing_else() -> None:
    used = set().union(*(voices_of(load_suite(name)) for name in SHIPPED))
    found = {path.stem for path in suite_voices_folder().iterdir()}
    assert found == used - set(shipped_voices())


def test_a_suite_can_be_read_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = (suites_folder() / "smoke.toml").read_text(encoding="utf-8")
    path.write_text(text.replace('name = "smoke"', 'name = "mine"'), encoding="utf-8")
    assert load_suite(path).cases == load_suite(str(path)).cases == load_suite("smoke").cases
    assert load_suite(path).name == "mine"


def test_defaults_of_a_case() -> None:
    (case,) = parse(CASE).cases
    assert case == SuiteCase(**CASE)
    assert (case.speed, case.recognise) == (1.0, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speeed": 1.0}, r"unknown key 'speeed'.*did you mean 'speed'"),
        ({"speed": "1"}, r"'cases\[0\].speed' must be a number"),
        ({"speed": 0.4}, r"'cases\[0\].speed' must be of at least 0.5"),
        ({"speed": 2.1}, "at most 2"),
        ({"phonemes": ""}, r"'cases\[0\].phonemes' must have a length of at least 1"),
        ({"text": ""}, "length of at least 1"),
        ({"id": "One two"}, r"'cases\[0\].id' must be a name"),
        ({"language": "English"}, r"'cases\[0\].language' must be a language"),
        ({"recognise": "yes"}, r"'cases\[0\].recognise' must be a boolean"),
        ({"recognise": True, "language": "fr-fr"}, "case 'one' asks for 'recognise'.*English"),
        ({"voice": "a*0.5+b"}, "case 'one': voice 'a\\*0.5\\+b': give every voice a weight"),
    ],
)
def test_a_wrong_case_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=rf"mine.toml: .*(?:{message})"):
        parse(CASE | change)


def test_recognition_is_allowed_for_every_english() -> None:
    for language in ("en", "en-us", "en-gb"):
        assert parse(CASE | {"language": language, "recognise": True}).cases[0].recognise


def test_a_missing_key_an_empty_suite_and_a_double_id_are_refused() -> None:
    with pytest.raises(SuiteError, match=r"table 'cases\[0\]' lacks the key 'text'"):
        parse({k: v for k, v in CASE.items() if k != "text"})
    with pytest.raises(SuiteError, match="length of at least 1"):
        parse()
    with pytest.raises(SuiteError, match="two cases have the id 'one'"):
        parse(CASE, CASE | {"text": "No."})


def test_an_unknown_suite_is_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="unknown suite 'smok'; did you mean 'smoke'"):
        load_suite("smok")
    with pytest.raises(SuiteError, match="unknown suite 'xyzzy'; known: full, smoke"):
        load_suite("xyzzy")
    with pytest.raises(SuiteError, match="no suite at"):
        load_suite(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name =")
    with pytest.raises(SuiteError, match=r"bad\.toml is not valid TOML"):
        load_suite(tmp_path / "bad.toml")


def test_a_suite_error_leaves_as_a_recipe_error_does_but_under_its_own_name() -> None:
    assert SuiteError.exit_code == RecipeError.exit_code
    assert SuiteError.title == "suite"


def test_a_voice_may_come_from_the_bundle_and_from_a_path(
    tmp_path: Path, config: ModelConfig
) -> None:
    load_voice("af_heart").write_bin(tmp_path / "mine.bin")
    case = SuiteCase(**CASE | {"voice": "mine"})
    with pytest.raises(VoiceError, match="mine"):
        suite_voice(case, config)
    found = suite_voice(case, config, search=[tmp_path])
    by_path = suite_voice(SuiteCase(**CASE | {"voice": str(tmp_path / "mine.bin")}), config)
    assert found.sha256 == by_path.sha256 == load_voice("af_heart").sha256


def test_the_suites_own_voice_comes_before_one_of_the_same_name(
    tmp_path: Path, config: ModelConfig
) -> None:
    load_voice("af_heart").write_bin(tmp_path / "bm_george.bin")
    case = SuiteCase(**CASE | {"voice": "bm_george"})
    assert suite_voice(case, config, search=[tmp_path]).sha256 == suite_voice(case, config).sha256


def test_a_blend_is_mixed(config: ModelConfig) -> None:
    blend = suite_voice(SuiteCase(**CASE | {"voice": "af_heart*0.75+bm_george*0.25"}), config)
    one, other = (
        suite_voice(SuiteCase(**CASE | {"voice": name}), config).data
        for name in ("af_heart", "bm_george")
    )
    np.testing.assert_allclose(blend.data, 0.75 * one + 0.25 * other, atol=1e-6)


def test_a_voice_of_another_shape_is_refused(tiny: Checkpoint) -> None:
    import dataclasses

    config = dataclasses.replace(tiny.config, style_dim=64)
    with pytest.raises(VoiceError, match="expected"):
        suite_voice(SuiteCase(**CASE), config)


def test_suites_are_found_in_a_wheel_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "suites"
    folder.mkdir()
    text = (suites_folder() / "smoke.toml").read_text(encoding="utf-8")
    (folder / "packed.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("kokoro_coreml.resources._DATA", tmp_path)
    assert suite_names() == ["packed"]
    assert load_suite("packed").cases == parse_suite(tomllib.loads(text), document="x").cases
    assert suite_voices_folder() == folder / "voices"
