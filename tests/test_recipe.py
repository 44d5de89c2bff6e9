from __future__ import annotations

import copy
import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import RecipeError
from kokoro_coreml.recipe import PIPELINE, Target, load_recipe, parse_recipe, recipe_names
from kokoro_coreml.resources import data_file, patches_folder, recipes_folder
from kokoro_coreml.vocabulary import Vocabulary

SENTENCES = Path(__file__).parent / "data" / "sentences.toml"


@pytest.fixture
def raw():
    return tomllib.loads((recipes_folder() / "complete.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def vocabulary():
    text = data_file("kokoro-82m.config.json").read_bytes()
    return Vocabulary.from_config(ModelConfig.from_json(text))


def refused(raw, *fragments):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(raw, document="r.toml")
    message = str(caught.value)
    assert message.startswith("r.toml:")
    for fragment in fragments:
        assert fragment in message
    return message


def test_every_shipped_recipe_is_valid_and_named_after_its_file():
    assert {"complete", "kokoro-82m"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).name == name
    bundles = [load_recipe(name).bundle for name in recipe_names()]
    assert len(set(bundles)) == len(bundles), "no recipe replaces another's bundle"


def test_complete_has_its_shape_and_pins_the_weights():
    recipe = load_recipe("complete")
    assert [(b.tokens, b.frames) for b in recipe.buckets] == [(128, 400)]
    assert recipe.bundle == "kokoro-82m-complete"
    assert recipe.checkpoint.source == "hexgrad/Kokoro-82M"
    assert recipe.checkpoint.sha256["kokoro-v1_0.pth"].startswith("496dba11")
    assert recipe.checkpoint.fallback == "packaged"
    assert recipe.parity.audio_snr_db == 30.0


def test_a_recipe_is_found_by_path(tmp_path):
    copied = tmp_path / "mine.toml"
    copied.write_bytes((recipes_folder() / "complete.toml").read_bytes())
    assert load_recipe(copied) == load_recipe(str(copied)) == load_recipe("complete")


def test_to_dict_reads_back_as_the_same_recipe():
    recipe = load_recipe("complete")
    assert parse_recipe(recipe.to_dict(), document="r.toml") == recipe


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(RecipeError, match=r"unknown recipe 'compleat'.*complete"):
        load_recipe("compleat")
    with pytest.raises(RecipeError, match=r"known: .*complete"):
        load_recipe("zzz")


@pytest.mark.parametrize("path", ["no/such.toml", "such.toml"])
def test_a_path_without_a_file_is_named(path):
    with pytest.raises(RecipeError, match=re.escape(path)):
        load_recipe(path)


@pytest.mark.parametrize("content", [b"schema = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_what_is_not_toml_is_refused(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match="broken"):
        load_recipe(path)


def test_an_unknown_key_at_the_top_names_the_nearest(raw):
    refused(raw | {"bukets": []}, "unknown key 'bukets'", "top level", "did you mean 'buckets'?")


def test_an_unknown_key_is_reported_rather_than_the_missing_one_it_stands_for(raw):
    raw["noise"] = {"sede": 1}
    refused(raw, "unknown key 'sede'", "table 'noise'", "'seed'")


def test_an_unknown_key_inside_a_list_of_tables_names_its_place(raw):
    raw["buckets"].append({"tokens": 64, "frames": 200, "frame": 1})
    refused(raw, "unknown key 'frame'", "table 'buckets[1]'", "'frames'")


def set_at(raw, path, value):
    changed = copy.deepcopy(raw)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "fragments"),
    [
        (["schema"], 2, ["schema 2", "reads 1"]),
        (["schema"], "1", ["'schema'", "1"]),
        (["schema"], True, ["'schema'"]),
        (["name"], "Bad Name", ["'name'", "a-z"]),
        (["bundle"], "../up", ["'bundle'", "../up"]),
        (["cut"], "half", ["'cut'", "'complete'"]),
        (["description"], "", ["'description'"]),
        (["voices"], [], ["'voices'", "at least 1"]),
        (["voices"], "af_heart", ["'voices'", "list"]),
        (["voices"], ["af_heart", "af_heart"], ["'voices'", "twice"]),
        (["buckets"], [], ["'buckets'", "is needed for the cut 'complete'"]),
        (["buckets", 0, "frames"], 10_001, ["'buckets[0].frames'", "at most 10000", "10001"]),
        (["buckets", 0, "tokens"], 2, ["'buckets[0].tokens'", "at least 3"]),
        (["buckets", 0, "tokens"], 128.0, ["'buckets[0].tokens'", "integer", "128.0"]),
        (["buckets", 0, "frames"], 0, ["'buckets[0].frames'", "at least 1"]),
        (["buckets", 0, "frames"], True, ["'buckets[0].frames'", "integer"]),
        (["buckets"], [{"tokens": 128, "frames": 9}] * 2, ["'buckets'", "'128x9' twice"]),
        (["checkpoint", "revision"], "main", ["'checkpoint.revision'", "main"]),
        (["checkpoint", "sha256"], {}, ["'checkpoint.sha256'"]),
        (["checkpoint", "sha256", "config.json"], "AB", ["'checkpoint.sha256.config.json'"]),
        (["checkpoint", "fallback"], "hub", ["'checkpoint.fallback'", "'packaged'"]),
        (["target", "precision"], "float16", ["'target.precision'", "'float32'"]),
        (["target", "compute_units"], "GPU", ["'target.compute_units'", "'CPU_ONLY'"]),
        (["noise", "seed"], -1, ["'noise.seed'", "-1"]),
        (["sample", "speed"], 3.0, ["'sample.speed'", "at most 2"]),
        (["sample", "speed"], float("nan"), ["'sample.speed'", "finite"]),
        (["sample", "voice"], "am_michael", ["'sample.voice'", "voices"]),
        (["sample", "phonemes"], "a" * 127, ["'sample.phonemes'", "129 tokens", "128x400"]),
        (["parity", "audio_snr_db"], "35", ["'parity.audio_snr_db'", "number"]),
        (["parity"], [], ["'parity'", "table"]),
    ],
)
def test_a_wrong_value_is_refused_and_named(raw, path, value, fragments):
    parse_recipe(raw, document="r.toml")
    refused(set_at(raw, path, value), *fragments)


# the cut `pipeline`


@pytest.fixture
def pipeline():
    return tomllib.loads((recipes_folder() / "kokoro-82m.toml").read_text(encoding="utf-8"))


def test_the_pipeline_recipe_names_every_stage_and_both_axes():
    recipe = load_recipe("kokoro-82m")
    assert recipe.cut == "pipeline"
    assert recipe.tokens == (32, 64, 128, 256, 512)
    assert recipe.frames == (128, 256, 512, 1024, 2048)
    assert recipe.buckets == ()
    assert sorted(recipe.stages) == sorted(PIPELINE)
    assert recipe.target.multifunction
    half = [name for name in PIPELINE if recipe.build(name).precision == "float16"]
    assert half == ["Decoder", "Generator"]
    assert {recipe.build(name).minimum_deployment_target for name in PIPELINE} == {"iOS18"}
    for name, stage in recipe.stages.items():
        build = recipe.build(name)
        assert (build.precision, build.compute_units) == (stage.precision, stage.compute_units)
        assert build.compute_units == ("CPU_AND_NE" if name in half else "CPU_ONLY")
        assert len(stage.reason) > 10


def test_the_pipeline_recipe_reads_back_as_the_same():
    recipe = load_recipe("kokoro-82m")
    assert parse_recipe(recipe.to_dict(), document="r.toml") == recipe


def test_the_recipe_for_ios_17_differs_in_its_target_and_buckets_alone():
    older, recipe = load_recipe("kokoro-82m-ios17"), load_recipe("kokoro-82m")
    assert older.target == Target(minimum_deployment_target="iOS17")
    assert (len(older.tokens), len(older.frames)) == (1, 1)
    for field in dataclasses.fields(recipe):
        if field.name not in ("name", "description", "bundle", "tokens", "frames", "target"):
            assert getattr(older, field.name) == getattr(recipe, field.name), field.name


def test_every_recipe_has_a_bundle_of_its_own():
    bundles = [load_recipe(name).bundle for name in recipe_names()]
    assert len(set(bundles)) == len(bundles)


def test_the_complete_cut_is_built_as_its_target_says():
    recipe = load_recipe("complete")
    build = recipe.build("KokoroComplete")
    assert (build.precision, build.compute_units) == ("float32", "CPU_ONLY")
    assert build.minimum_deployment_target == "iOS17"


@pytest.mark.parametrize(
    ("path", "value", "fragments"),
    [
        (["buckets"], [{"tokens": 128, "frames": 256}], ["'buckets' does not belong to the cut"]),
        (["tokens"], [], ["'tokens' is needed for the cut 'pipeline'"]),
        (["frames"], [], ["'frames' is needed for the cut 'pipeline'"]),
        (["stages"], {}, ["'stages' is needed for the cut 'pipeline'"]),
        (["target", "precision"], "float32", ["'target.precision' does not belong to the cut"]),
        (["target", "compute_units"], "ALL", ["'target.compute_units' does not belong"]),
        (["tokens"], [64, 32, 128], ["'tokens' must rise", "[64, 32, 128]"]),
        (["tokens"], [128, 128], ["'tokens' must rise"]),
        (["frames"], [256, 128], ["'frames' must rise", "[256, 128]"]),
        (["frames"], [128, 200], ["'frames' must be multiples of 128", "200"]),
        (["frames"], [0, 128], ["'frames[0]'", "at least 1"]),
        (["tokens"], [2, 128], ["'tokens[0]'", "at least 3"]),
        (["tokens"], [128.0], ["'tokens[0]'", "integer"]),
        (["tokens"], [32, 64], ["'sample.phonemes' needs", "'tokens' (64)"]),
        (["target", "minimum_deployment_target"], "iOS17", ["'target.multifunction' needs"]),
        (["stages", "Tail", "precision"], "int8", ["'stages.Tail.precision'", "'float16'"]),
        (["stages", "Tail", "compute_units"], "GPU", ["'stages.Tail.compute_units'"]),
        (["stages", "Tail", "reason"], "", ["'stages.Tail.reason'"]),
        (["stages", "Tail", "weights"], 8, ["unknown key 'weights'", "'stages.Tail'"]),
        (["cut"], "complete", ["'buckets' is needed for the cut 'complete'"]),
    ],
)
def test_a_contradiction_in_a_pipeline_recipe_is_refused(pipeline, path, value, fragments):
    parse_recipe(pipeline, document="r.toml")
    refused(set_at(pipeline, path, value), *fragments)


@pytest.mark.parametrize(
    ("path", "value", "fragments"),
    [
        (["tokens"], [128], ["'tokens' does not belong to the cut 'complete'"]),
        (["frames"], [128], ["'frames' does not belong to the cut 'complete'"]),
        (["target", "multifunction"], True, ["'target.multifunction' does not belong to the cut"]),
        (["cut"], "pipeline", ["'buckets' does not belong to the cut 'pipeline'"]),
    ],
)
def test_what_only_the_pipeline_has_is_refused_elsewhere(raw, path, value, fragments):
    refused(set_at(raw, path, value), *fragments)


@pytest.mark.parametrize("key", ["precision", "compute_units"])
def test_the_complete_cut_needs_what_its_target_says(raw, key):
    del raw["target"][key]
    refused(raw, f"'target.{key}' is needed for the cut 'complete'")


def test_a_stage_that_is_missing_or_unknown_is_refused(pipeline):
    tail = pipeline["stages"].pop("Tail")
    refused(pipeline, "'stages' must name Encoder, ", "Tail; found Encoder, ")
    pipeline["stages"]["Vocoder"] = tail
    refused(pipeline, "'stages' must name Encoder, ", "Vocoder")


def test_packages_of_one_function_may_be_for_ios_17(pipeline):
    pipeline["target"] = {"minimum_deployment_target": "iOS17"}
    assert not parse_recipe(pipeline, document="r.toml").target.multifunction


@pytest.mark.parametrize("text", ["palette3", "palette4/16"])
def test_what_ios_17_cannot_store_is_refused_for_it(pipeline, text):
    pipeline["compression"] = {"default": "exact", "reason": "a test", "stages": {"Tail": text}}
    assert parse_recipe(pipeline, document="r.toml").compression.stages == {"Tail": text}
    pipeline["target"] = {"minimum_deployment_target": "iOS17"}
    refused(pipeline, text, "need iOS 18")


def test_the_sample_must_fit_every_bucket(raw):
    raw["buckets"] += [{"tokens": 64, "frames": 200}, {"tokens": 65, "frames": 9}]
    needed = len(raw["sample"]["phonemes"]) + 2
    refused(raw, f"needs {needed} tokens, more than 64x200, 65x9 ")
    raw["buckets"][1:] = [{"tokens": needed, "frames": 9}]
    assert [str(b) for b in parse_recipe(raw, document="r.toml").buckets] == [
        "128x400",
        f"{needed}x9",
    ]


@pytest.mark.parametrize("key", ["schema", "name", "voices", "checkpoint", "noise", "parity"])
def test_a_missing_key_is_named(raw, key):
    del raw[key]
    refused(raw, "top level", f"'{key}'")


def test_a_missing_key_in_a_table_names_the_table(raw):
    del raw["sample"]["phonemes"]
    refused(raw, "table 'sample'", "'phonemes'")


def test_a_whole_number_is_taken_where_a_number_is_expected(raw):
    raw["sample"]["speed"] = 1
    speed = parse_recipe(raw, document="r.toml").sample.speed
    assert speed == 1.0
    assert isinstance(speed, float)


def test_fallback_may_be_left_out(raw):
    del raw["checkpoint"]["fallback"]
    assert parse_recipe(raw, document="r.toml").checkpoint.fallback is None


def test_samples_of_shipped_recipes_are_in_the_vocabulary(vocabulary):
    for name in recipe_names():
        recipe = load_recipe(name)
        room = min((b.tokens for b in recipe.buckets), default=0) or max(recipe.tokens)
        assert len(vocabulary.encode(recipe.sample.phonemes)) <= room


def test_the_sentences_for_tests_are_in_the_vocabulary_and_fit_the_default_bucket(vocabulary):
    sentences = tomllib.loads(SENTENCES.read_text(encoding="utf-8"))["sentences"]
    lengths = {s["id"]: len(vocabulary.encode(s["phonemes"])) for s in sentences}
    assert len(lengths) == len(sentences) == 8
    assert max(lengths.values()) == 128
    assert {s["voice"] for s in sentences} == {"af_heart", "am_michael", "ff_siwis", "em_alex"}


def test_the_folders_of_the_checkout_are_found():
    assert recipes_folder().name == "convert"
    assert patches_folder().name == "patches"
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt"):
        data_file("nothing.txt")


def test_package_data_is_preferred_in_a_wheel(monkeypatch, tmp_path):
    (tmp_path / "convert").mkdir()
    monkeypatch.setattr("kokoro_coreml.resources._DATA", tmp_path)
    assert recipes_folder() == tmp_path / "convert"
