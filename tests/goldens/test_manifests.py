"""Manifests, vocabularies and blends: what is written as right is accepted, the rest refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import random

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import BundleError, CheckpointError
from kokoro_coreml.goldens.inputs import config
from kokoro_coreml.goldens.manifest_example import example
from kokoro_coreml.goldens.manifest_mutations import mutations, place
from kokoro_coreml.goldens.manifest_random import random_manifest
from kokoro_coreml.manifest import Manifest, manifest_schema, parse_manifest
from kokoro_coreml.strict_json import parse_json
from tests.goldens.test_files import cases

SEEDS = st.integers(0, 2**64)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**400, 24_000.0])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "float32", "passed", "ALL", "a/b", "../a", "0" * 64])
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
SCHEMA = jsonschema.Draft202012Validator(manifest_schema())

MUTATIONS = tuple(mutations())


def read(text):
    """As `read_manifest` reads a file."""
    try:
        return parse_json(text)
    except ValueError:
        return None


def test_the_example_is_valid():
    assert parse_manifest(json.loads(example().to_json())) == example()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.id)
def test_a_mutation_is_refused_for_what_it_says(mutation):
    with pytest.raises(BundleError) as caught:
        parse_manifest(json.loads(mutation.text))
    for part in mutation.said:
        assert part in str(caught.value)


def test_every_key_that_must_be_there_is_left_out_once():
    def keys(cls):
        return {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}

    missing = {m.id.removeprefix("missing-") for m in MUTATIONS if m.id.startswith("missing-")}
    assert missing >= keys(Manifest)
    nested = {key.rsplit(".", 1)[-1] for key in missing if "." in key}
    for record in (type(v) for v in vars(example()).values() if dataclasses.is_dataclass(v)):
        assert nested >= keys(record)


def test_the_mutations_are_of_many_kinds():
    kinds = {m.id.split("-")[0] for m in MUTATIONS}
    expected = {"missing", "unknown", "type", "path", "digest", "range", "version", "twice"}
    assert kinds >= expected | {"contradiction", "listed"}
    assert len({m.text for m in MUTATIONS}) == len(MUTATIONS)


def test_there_are_enough_of_both():
    accepted = [case for case in cases("manifests") if "output" in case]
    refused = [case for case in cases("manifests") if "error" in case]
    assert len(accepted) >= 50
    assert len(refused) >= 150
    assert len({case["input"]["json"] for case in accepted + refused}) == len(accepted + refused)


def test_what_is_written_as_valid_is_accepted_and_only_that():
    for case in cases("manifests"):
        raw = read(case["input"]["json"])
        if "output" in case:
            assert case["output"] == {"valid": True}
            parse_manifest(raw)
        elif raw is not None:
            with pytest.raises(BundleError):
                parse_manifest(raw)


def test_the_schema_refuses_nothing_that_is_written_as_valid():
    """By another reader than ours; it knows no contradictions and takes 24000.0 for whole."""
    refused = 0
    for case in cases("manifests"):
        raw = read(case["input"]["json"])
        if "output" in case:
            SCHEMA.validate(raw)
        else:
            refused += not SCHEMA.is_valid(raw)
    assert refused > 150


@given(SEEDS)
def test_a_random_manifest_is_valid_and_round_trips(seed):
    manifest = random_manifest(random.Random(seed))
    text = manifest.to_json()
    assert parse_manifest(json.loads(text)) == manifest
    assert parse_manifest(json.loads(text)).to_json() == text
    SCHEMA.validate(json.loads(text))


def test_equal_seeds_give_equal_manifests_and_others_others():
    one, again, other = (random_manifest(random.Random(seed)) for seed in (1, 1, 2))
    assert one == again != other


def places(raw, path=()):
    """Every path of a JSON value, from the root."""
    yield path
    items = (
        raw.items() if isinstance(raw, dict) else enumerate(raw if isinstance(raw, list) else [])
    )
    for key, value in items:
        yield from places(value, (*path, key))


@given(SEEDS, st.data())
@settings(
    max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_whatever_stands_in_a_manifest_is_accepted_or_refused_and_nothing_else(seed, data):
    raw = random_manifest(random.Random(seed)).to_dict()
    path = data.draw(st.sampled_from(list(places(raw))[1:]))
    value = data.draw(JSON)
    inner = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = copy.deepcopy(value)
    try:
        manifest = parse_manifest(raw)
    except BundleError:
        return
    assert SCHEMA.is_valid(raw)
    assert parse_manifest(json.loads(manifest.to_json())) == manifest


@given(SEEDS, st.data())
def test_a_key_left_out_anywhere_is_named(seed, data):
    raw = random_manifest(random.Random(seed)).to_dict()
    free = {("recipe", "content"), ("checkpoint", "files"), ("tools",), ("files",)}
    found = [
        path
        for path in places(raw)
        if path
        and isinstance(path[-1], str)
        and path[-1] != "detail"
        and not any(path[:n] in free for n in range(1, len(path)))
        and not {"metrics", "thresholds"} & set(path[:-1])
    ]
    path = data.draw(st.sampled_from(found))
    inner = raw
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    with pytest.raises(BundleError) as caught:
        parse_manifest(raw)
    where = f"table '{place(path[:-1])}'" if path[:-1] else "the top level"
    assert f"{where} lacks the key '{path[-1]}'" in str(caught.value)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_a_vocabulary_is_accepted_as_it_is_or_refused(vocab):
    raw = dict(config().raw) | {"vocab": vocab}
    whole = bool(vocab) and all(type(v) is int and 0 <= v < 178 for v in vocab.values())
    try:
        found = ModelConfig.from_json(json.dumps(raw)).vocab
    except CheckpointError:
        assert not whole
    else:
        assert whole
        assert found == vocab


@pytest.mark.parametrize("name", ["manifests", "vocabularies", "blends", "voices", "tokenizer"])
def test_both_what_is_right_and_what_is_wrong_is_there(name):
    kinds = [("error" in case) for case in cases(name)]
    assert kinds.count(True) >= 15
    assert kinds.count(False) >= 15
