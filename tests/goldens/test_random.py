"""Random golden cases: of their seed, of both verdicts, and labelled as the readers say."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_coreml.cli import main
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import BundleError, CheckpointError, VoiceError
from kokoro_coreml.goldens import random_functions, read_index
from kokoro_coreml.goldens.arrays import array, content
from kokoro_coreml.goldens.cases import case
from kokoro_coreml.goldens.files import Drawing, generate
from kokoro_coreml.manifest import parse_manifest
from kokoro_coreml.strict_json import parse_json

SEEDS = st.integers(0, 2**64 - 1)
ALWAYS_RIGHT = {"joining", "noise", "timestamps"}
ASKED_FOR = {
    "tokenizer", "voices", "blends", "splitting", "timestamps", "noise", "joining",
    "manifests", "vocabularies", "voice_files",
}  # fmt: skip


def drawn(name, seed, count):
    (function,) = [f for f in random_functions(seed, count) if f.name == name]
    return function.cases()


def test_every_function_that_the_languages_share_is_drawn():
    assert {f.name for f in random_functions(0, 1)} >= ASKED_FOR


@pytest.mark.parametrize("function", random_functions(20, 150), ids=lambda f: f.name)
def test_both_verdicts_occur_often(function):
    found = function.cases()
    refused = sum(case.error is not None for case in found) / len(found)
    assert len(found) == 150
    assert len({json.dumps(case.input) for case in found}) > 120
    if function.name in ALWAYS_RIGHT:
        assert refused == 0
    else:
        assert 0.08 < refused < 0.85


@given(SEEDS)
@settings(max_examples=60)
def test_a_manifest_is_labelled_as_its_reader_says(seed):
    (found,) = drawn("manifests", seed, 1)
    try:
        manifest = parse_manifest(parse_json(found.input["json"]))
    except ValueError:
        verdict = BundleError
    except BundleError as error:
        verdict = type(error)
    else:
        assert found.error is None
        assert found.output["valid"]
        assert simple(found.output["read"]) == simple(manifest.to_dict())
        return
    assert (found.error.code, found.error.title) == (verdict.exit_code, verdict.title)


def simple(value):
    """Numbers as texts, because large ones stand as texts."""
    if isinstance(value, dict):
        return {key: simple(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [simple(inner) for inner in value]
    return str(value) if type(value) in (int, float) else value


@given(SEEDS)
@settings(max_examples=60)
def test_a_vocabulary_is_labelled_as_its_reader_says(seed):
    (found,) = drawn("vocabularies", seed, 1)
    try:
        vocab = ModelConfig.from_json(found.input["json"].encode("utf-8")).vocab
    except CheckpointError:
        verdict = CheckpointError
    else:
        assert found.output == {"vocab": vocab}
        return
    assert (found.error.code, found.error.title) == (verdict.exit_code, verdict.title)


@given(SEEDS)
@settings(max_examples=60)
def test_a_voice_file_is_labelled_by_its_size_and_its_values(seed):
    (found,) = drawn("voice_files", seed, 1)
    data = content(found.input["file"])
    whole = len(data) == 4 * found.input["rows"] * found.input["columns"]
    values = array({"f32le": found.input["file"]["base64"]}) if whole else []
    if whole and all(map(math.isfinite, values)):
        assert found.output == {"values": {"f32le": found.input["file"]["base64"]}}
    else:
        assert (found.error.code, found.error.title) == (VoiceError.exit_code, VoiceError.title)


def test_manifests_are_wrong_in_many_ways():
    messages = set()
    for found in drawn("manifests", 3, 200):
        try:
            parse_manifest(parse_json(found.input["json"]))
        except (ValueError, BundleError) as error:
            words = str(error).split()
            messages.add(" ".join(word for word in words if word.isalpha())[:30])
    assert len(messages) > 25


def test_a_case_depends_on_seed_function_and_number_alone():
    for name in ("blends", "vocabularies", "joining"):
        few, more, other = drawn(name, 5, 4), drawn(name, 5, 6), drawn(name, 6, 4)
        assert few == more[:4]
        assert few != other
        assert len(set(map(repr, more))) == 6
    one, again = generate(Drawing(9, 2)), generate(Drawing(9, 2))
    assert one == again


def test_a_case_may_be_of_either_verdict():
    def refuse():
        raise VoiceError("no")

    assert case("x", {}, lambda: {"y": 1}, refused=None).output == {"y": 1}
    found = case("x", {}, refuse, refused=None)
    assert found.to_dict()["error"] == {"code": 6, "title": "voice", "contains": []}


def test_the_command_writes_as_many_as_asked_for_and_keeps_the_seed(tmp_path, capsys):
    out = tmp_path / "random"
    command = ["goldens", "--random", "18446744073709551615", "--cases", "3", "--out", str(out)]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cases"].keys() >= ASKED_FOR
    assert set(found["cases"].values()) == {3}
    assert read_index(out)["seed"] == 2**64 - 1
    assert main(command) == 11
    assert "seed" not in json.loads(generate()["index.json"])


def test_five_hundred_cases_are_drawn_to_where_swift_looks(tmp_path, monkeypatch):
    written = []

    def keep(out, *, drawing, **given):
        written.append((str(out), drawing))
        raise BundleError("enough")

    monkeypatch.setattr("kokoro_coreml.goldens.write_goldens", keep)
    assert main(["goldens", "--random", "4"]) == 11
    assert written == [("artifacts/random/goldens", Drawing(4, 500))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cases", "3"], "give --random a seed"),
        (["bundle", "--random", "3"], "name no bundle"),
        (["--random", "-1"], "random"),
        (["--random", "1", "--cases", "0"], "cases"),
    ],
)
def test_a_wrong_command_line_draws_nothing(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["goldens", *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_any_character_but_half_a_pair_is_drawn():
    from kokoro_coreml.goldens.inputs import character

    class Extreme(random.Random):
        def randrange(self, stop):
            return stop - 1 if self.last else 0xD800

    for last, expected in ((True, "\U0010ffff"), (False, "\ue000")):
        rng = Extreme()
        rng.last = last
        assert character(rng) == expected
