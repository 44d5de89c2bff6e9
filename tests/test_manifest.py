from __future__ import annotations

import copy
import dataclasses
import json
import string

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kokoro_coreml.errors import BundleError
from kokoro_coreml.manifest import (
    BucketRecord,
    CheckpointRecord,
    FileRecord,
    FunctionRecord,
    LegRecord,
    Manifest,
    NoiseRecord,
    PackageRecord,
    ParityRecord,
    RecipeRecord,
    SampleRecord,
    TensorRecord,
    VoiceRecord,
    manifest_schema,
    parse_manifest,
    read_manifest,
)
from kokoro_coreml.resources import data_file
from tests.support.bundles import example_manifest

TEXT = st.text(min_size=1, max_size=12)
NAME = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=8)
SHA = st.text("0123456789abcdef", min_size=64, max_size=64)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
VERDICT = st.sampled_from(["passed", "failed", "not run"])
SIZE = st.integers(1, 2**31 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3),
    max_leaves=6,
)
BUCKET = st.builds(BucketRecord, st.integers(3, 512), st.none() | SIZE)


def tuples(strategy, key=None, minimum=0, maximum=3):
    return st.lists(strategy, min_size=minimum, max_size=maximum, unique_by=key).map(tuple)


@st.composite
def functions(draw, buckets):
    dtype = st.sampled_from(["float32", "float16", "int32"])
    shape = tuples(SIZE)
    tensors = draw(
        tuples(st.builds(TensorRecord, NAME, dtype, shape), lambda t: t.name, minimum=2, maximum=5)
    )
    bucket = draw(st.sampled_from(buckets))
    return FunctionRecord(draw(NAME), bucket, tensors[:1], tensors[1:])


@st.composite
def manifests(draw):
    buckets = draw(tuples(BUCKET, minimum=1))
    units = st.sampled_from(["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"])
    many = tuples(functions(buckets), lambda f: f.name, minimum=1)
    package = st.builds(PackageRecord, NAME, TEXT, st.none() | TEXT, many, TEXT, TEXT, units)
    packages = draw(tuples(package, lambda p: p.file, minimum=1))
    dtype = st.sampled_from(["float32", "float16"])
    voice = st.builds(VoiceRecord, TEXT, NAME, SIZE, SIZE, dtype, TEXT)
    voices = draw(tuples(voice, lambda v: v.name))
    sample = draw(st.none() | st.builds(SampleRecord, NAME, TEXT, TEXT, TEXT, NUMBER))
    metrics = st.dictionaries(NAME, NUMBER, max_size=3)
    leg = st.builds(LegRecord, TEXT, VERDICT, metrics, metrics, st.none() | TEXT)
    paths = ["config.json", *(v.file for v in voices), *(f"{p.file}/x" for p in packages)]
    paths += [sample.file] if sample else []
    record = st.builds(FileRecord, SHA, st.integers(0, 2**40))
    return Manifest(
        schema_version=1,
        project_version=draw(TEXT),
        recipe=RecipeRecord(draw(TEXT), draw(st.dictionaries(NAME, JSON, max_size=3))),
        checkpoint=draw(
            st.builds(
                CheckpointRecord,
                TEXT,
                TEXT,
                st.none() | TEXT,
                st.dictionaries(NAME, SHA, max_size=3),
                TEXT,
                st.none() | TEXT,
                tuples(TEXT),
            )
        ),
        sample_rate=24_000,
        samples_per_frame=draw(SIZE),
        max_phonemes=draw(SIZE),
        vocabulary="config.json",
        packages=packages,
        buckets=buckets,
        noise=NoiseRecord(draw(TEXT), draw(st.integers(0, 2**63 - 1))),
        voices=voices,
        sample=sample,
        tools=draw(st.dictionaries(NAME, TEXT, max_size=3)),
        parity=ParityRecord(draw(VERDICT), draw(TEXT), draw(tuples(leg, lambda x: x.name))),
        files={path: draw(record) for path in paths},
    )


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(manifests())
def test_any_manifest_is_read_back_as_it_was_and_written_to_the_same_bytes(manifest):
    text = manifest.to_json()
    back = parse_manifest(json.loads(text))
    assert back == manifest
    assert back.to_json() == text
    jsonschema.validate(json.loads(text), manifest_schema())


def test_the_text_is_sorted_indented_readable_and_ends_with_a_newline():
    manifest = example_manifest()
    shuffled = dataclasses.replace(
        manifest,
        files=dict(reversed(manifest.files.items())),
        tools=dict(reversed(manifest.tools.items())),
    )
    text = manifest.to_json()
    assert shuffled.to_json() == text
    assert text.endswith("}\n")
    assert '\n  "recipe": {' in text
    assert "ðə" in text
    assert list(json.loads(text)["files"]) == sorted(manifest.files)
    assert list(json.loads(text)) == [f.name for f in dataclasses.fields(Manifest)]


def test_the_schema_file_is_the_one_generated_from_the_classes():
    stored = data_file("manifest.schema.json").read_text(encoding="utf-8")
    assert stored == json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"
    jsonschema.Draft202012Validator.check_schema(json.loads(stored))


def test_the_checkpoint_record_has_the_fields_of_provenance():
    from kokoro_coreml.checkpoint.types import Provenance

    ours = [f.name for f in dataclasses.fields(CheckpointRecord)]
    assert ours == [f.name for f in dataclasses.fields(Provenance)]


def set_at(raw, path, value):
    inner = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value


PACKAGE = ["packages", 0]
FUNCTION = [*PACKAGE, "functions", 0]


@pytest.mark.parametrize(
    ("path", "value", "fragments"),
    [
        (["schema_version"], 2, ["version 2", "reads 1"]),
        (["schema_version"], "1", ["'schema_version'"]),
        (["made_on"], "today", ["unknown key 'made_on'"]),
        (["sample_rate"], 24_000.0, ["'sample_rate'", "integer"]),
        (["sample_rate"], True, ["'sample_rate'", "integer"]),
        (["samples_per_frame"], 0, ["'samples_per_frame'", "at least 1"]),
        (["packages"], [], ["'packages'", "at least 1"]),
        ([*FUNCTION, "inputs", 0, "dtype"], "int64", ["dtype'", "'int32'", "int64"]),
        ([*FUNCTION, "inputs", 0, "shape"], [1, -1], ["shape[1]'", "-1"]),
        ([*FUNCTION, "inputs", 0, "name"], "audio", ["tensor", "'audio' occurs twice"]),
        ([*FUNCTION, "bucket", "frames"], 401, ["128 x 401", "'buckets'"]),
        (["buckets", 0], {"tokens": None, "frames": None}, ["neither tokens nor frames"]),
        ([*PACKAGE, "file"], "/abs.mlpackage", ["'packages[0].file'", "inside the bundle"]),
        ([*PACKAGE, "file"], "../up.mlpackage", ["'packages[0].file'", "inside the bundle"]),
        ([*PACKAGE, "file"], "a/../../b", ["'packages[0].file'", "inside the bundle"]),
        ([*PACKAGE, "file"], "Other.mlpackage", ["Other.mlpackage", "no file"]),
        ([*PACKAGE, "compute_units"], "NPU", ["'packages[0].compute_units'"]),
        (["vocabulary"], "missing.json", ["missing.json", "'files'"]),
        (["voices", 0, "file"], "voices/none.bin", ["voices/none.bin"]),
        (["sample", "file"], "none.wav", ["none.wav"]),
        (["noise", "seed"], -1, ["'noise.seed'"]),
        (["checkpoint", "revision"], 5, ["'checkpoint.revision'", "string"]),
        (["checkpoint", "files", "x"], "0" * 63, ["'checkpoint.files.x'", "SHA-256"]),
        (["parity", "verdict"], "ok", ["'parity.verdict'", "'passed'"]),
        (["parity", "legs", 0, "metrics", "snr_db"], float("inf"), ["snr_db'", "finite"]),
        (["files", "manifest.json"], {"sha256": "0" * 64, "bytes": 1}, ["own hash"]),
        (["files", "../x"], {"sha256": "0" * 64, "bytes": 1}, ["inside the bundle"]),
    ],
)
def test_a_wrong_manifest_is_refused_and_the_place_named(path, value, fragments):
    raw = example_manifest().to_dict()
    parse_manifest(copy.deepcopy(raw))
    set_at(raw, path, value)
    with pytest.raises(BundleError) as caught:
        parse_manifest(raw)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Manifest)])
def test_every_field_must_be_there(field):
    raw = example_manifest().to_dict()
    del raw[field]
    with pytest.raises(BundleError, match=f"'{field}'"):
        parse_manifest(raw)


def test_a_metric_that_is_nan_cannot_be_written():
    manifest = example_manifest()
    leg = LegRecord("audio", "passed", {"audio_snr_db": float("nan")}, {})
    bad = dataclasses.replace(manifest, parity=ParityRecord("passed", "executor", (leg,)))
    with pytest.raises(BundleError, match=r"audio_snr_db.*finite"):
        bad.to_json()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "JSON"),
        (b"[]", "table"),
        (b'{"a": NaN}', "NaN"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_what_is_not_a_manifest_is_refused(tmp_path, content, problem):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=problem):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        read_manifest(tmp_path)
