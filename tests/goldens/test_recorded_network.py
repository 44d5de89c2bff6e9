"""The committed recordings: whole, consistent, and (slow) what the network gives today."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from kokoro_coreml.goldens import read_index
from kokoro_coreml.goldens.files import index_text
from kokoro_coreml.goldens.inputs import config, suite_phonemes
from kokoro_coreml.goldens.recording import DEFAULT_PHRASES
from kokoro_coreml.goldens.recordings import write_recordings
from kokoro_coreml.goldens.tensors import MOST_SAMPLES, values_of
from kokoro_coreml.manifest import read_manifest
from kokoro_coreml.noise import gaussian
from kokoro_coreml.parity.metrics import log_spectral_distance_db, snr_db
from kokoro_coreml.recipe import FRAME_STAGES, PIPELINE, TOKEN_STAGES
from kokoro_coreml.synthesis import timestamps
from kokoro_coreml.vocabulary import Vocabulary, pad
from kokoro_coreml.voices import load_voice
from tests.support.cut_pipeline import RECORDINGS as FOLDER

AGAIN = "docs/goldens.md says how the recordings are made again; tell the Swift package's tests"
NAMES = tuple(phrase.id for phrase in DEFAULT_PHRASES)

LARGEST = 4096
"""Bytes, as the committed set was made with."""

MOST_BYTES, MOST_BYTES_OF_A_FILE = 2_500_000, 1_000_000

LEAST_SNR_DB = 40.0
"""Another processor adds in another order. Up to F0 that is a matter of the last bits; behind it,
bins of the source near its branch cut flip, and of the audio remains what remains of upstream's
after its own rounding (FACTS.md section 2)."""

MOST_SPECTRAL_DISTANCE_DB = 0.3

CLICK = 0.002
"""Of full scale, as `parity.thresholds` has it of a speech's opening and tail."""


def read(name, folder=FOLDER):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def runs(record):
    return [run for part in record["parts"] for run in part["runs"]]


def tensors(record):
    return [entry for run in runs(record) for entry in (*run["inputs"], *run["outputs"])]


def whole(run, side):
    found = {entry["name"]: entry for entry in run[side]}
    return {name: values_of(entry) for name, entry in found.items() if entry["data"] is not None}


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def manifest():
    return read_manifest(FOLDER)


@pytest.fixture(scope="module", params=DEFAULT_PHRASES, ids=NAMES)
def phrase(request):
    return request.param


@pytest.fixture(scope="module")
def record(phrase):
    return read(phrase.id)


def test_the_index_names_every_file_and_its_digest():
    found = {p.name: p.read_text(encoding="utf-8") for p in FOLDER.iterdir()}
    index = found.pop("index.json")
    assert index == index_text(found)
    assert found.keys() == {"manifest.json", "config.json", *(f"{name}.json" for name in NAMES)}
    assert read_index(FOLDER)["files"].keys() == found.keys()


def test_the_recordings_are_small():
    sizes = [path.stat().st_size for path in FOLDER.iterdir()]
    assert sum(sizes) < MOST_BYTES
    assert max(sizes) < MOST_BYTES_OF_A_FILE


def test_they_are_of_the_pipeline_that_its_own_gate_passed(manifest):
    assert [package.stage for package in manifest.packages] == list(PIPELINE)
    assert manifest.parity.verdict == "passed"
    assert manifest.checkpoint.source == "packaged"
    assert manifest.recipe.content["tokens"] == [32, 64]
    assert manifest.recipe.content["frames"] == [128]
    raw = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert raw["vocab"] == config().raw["vocab"]


def test_they_say_the_suites_sentences(phrase, record, manifest):
    assert phrase.phonemes in suite_phonemes().values()
    assert (record["phonemes"], record["speed"]) == (phrase.phonemes, phrase.speed)
    assert (record["voice"], record["noise_seed"]) == ("af_heart", manifest.noise.seed)
    assert (record["schema"], record["id"], record["cut"]) == (1, phrase.id, "pipeline")


def test_one_is_split_by_its_text_and_one_by_its_speech():
    parts = {name: [p["phonemes"] for p in read(name)["parts"]] for name in NAMES}
    assert {name: len(found) for name, found in parts.items()} == {
        "short": 1,
        "halves": 2,
        "fast": 2,
    }
    assert sum(map(len, parts["halves"])) + 2 <= 64 < len(read("fast")["phonemes"]) + 2
    assert len({read(name)["speed"] for name in NAMES}) > 1


def test_what_ran_in_vain_stands_in_front():
    first, second = read("halves")["parts"]
    assert [run["function"] for run in first["runs"]][:4] == ["tokens_64"] * 2 + ["tokens_32"] * 2
    for part in (first, second):
        stages = [run["stage"] for run in part["runs"]]
        assert stages[-len(PIPELINE) :] == list(PIPELINE)
    overflow = whole(first["runs"][1], "outputs")["pred_dur"]
    assert overflow.sum() > first["frames"]


def test_every_run_is_that_of_a_function_with_its_ports(record, manifest):
    functions = {(p.file, p.stage, f.name): f for p in manifest.packages for f in p.functions}
    for part in record["parts"]:
        for run in part["runs"]:
            function = functions[run["package"], run["stage"], run["function"]]
            for side in ("inputs", "outputs"):
                found = [(t["name"], t["dtype"], tuple(t["shape"])) for t in run[side]]
                assert found == [(p.name, p.dtype, p.shape) for p in getattr(function, side)]
        for run in part["runs"][-len(PIPELINE) :]:
            axis = "tokens" if run["stage"] in TOKEN_STAGES else "frames"
            assert run["function"] == f"{axis}_{part[axis]}"


def test_arrays_are_those_of_their_digests_and_samples(record):
    kept = 0
    for entry in tensors(record):
        count = int(np.prod(entry["shape"]))
        values = values_of(entry)
        size = count * np.dtype(entry["dtype"]).itemsize
        if values is None:
            assert size > LARGEST
            assert entry["name"] not in ("audio", "pred_dur", "ref_s")
        else:
            kept += 1
            stride = entry["sample"]["stride"]
            assert values.reshape(-1)[::stride].tolist() == entry["sample"]["values"]
        assert len(entry["sample"]["values"]) == -(-count // entry["sample"]["stride"])
        assert len(entry["sample"]["values"]) <= MOST_SAMPLES
    assert kept > 20


def test_a_stage_is_given_what_another_gave(record):
    for part in record["parts"]:
        given = {}
        for run in part["runs"]:
            for entry in run["inputs"]:
                assert entry == given.get(entry["name"], entry), (run["function"], entry["name"])
            given |= {entry["name"]: entry for entry in run["outputs"]}
        read_by = {e["name"] for run in part["runs"] for e in run["inputs"]}
        assert given.keys() - read_by == {"audio"}


def test_what_an_app_gives_is_what_python_makes_of_the_text(record, manifest):
    vocabulary, voice = Vocabulary.from_config(config()), load_voice("af_heart")
    for part in record["parts"]:
        stages = {run["stage"]: run for run in part["runs"][-len(PIPELINE) :]}
        ids, mask = pad(vocabulary.encode(part["phonemes"]), part["tokens"])
        encoder, duration = whole(stages["Encoder"], "inputs"), whole(stages["Duration"], "inputs")
        for found, expected in (("input_ids", ids), ("attention_mask", mask)):
            assert np.array_equal(encoder[found], expected[:, None, None, :])
            assert np.array_equal(duration[found], expected)
        assert np.array_equal(duration["ref_s"], voice.row(len(part["phonemes"])))
        assert duration["speed"].tolist() == [np.float32(record["speed"])]
        source = {entry["name"]: entry for entry in stages["Source"]["inputs"]}
        noise = gaussian(record["noise_seed"], part["frames"] * manifest.samples_per_frame)
        assert source["noise"]["sha256"] == digest(noise)
        assert not values_of(source["random_phases"]).any()


def test_the_speech_is_made_of_its_parts(record, manifest):
    speech, samples, durations, marks, start = record["speech"], [], [], [], 0.0
    spf, rate = manifest.samples_per_frame, manifest.sample_rate
    for part, length in zip(record["parts"], speech["parts"], strict=True):
        stages = {run["stage"]: run for run in part["runs"][-len(PIPELINE) :]}
        predicted = whole(stages["Duration"], "outputs")["pred_dur"].reshape(-1)
        used = predicted[: len(part["phonemes"]) + 2]
        assert not predicted[len(used) :].any()
        for name in ("Source", "Tail"):
            assert whole(stages[name], "inputs")["frames"].tolist() == [used.sum()]
        audio = whole(stages["Tail"], "outputs")["audio"].reshape(-1)
        assert length == used.sum() * spf
        assert not audio[length:].any()
        samples.append(audio[:length])
        durations.append(used)
        own = timestamps(part["phonemes"], used, spf / rate)
        marks += [[t.phoneme, start + t.start, start + t.end] for t in own]
        start += length / rate
    assert speech["samples"]["sha256"] == digest(np.concatenate(samples))
    assert speech["samples"]["data"] is None
    assert np.array_equal(values_of(speech["durations"]), np.concatenate(durations))
    assert speech["timestamps"] == marks


def loudest_end(audio, rate):
    """Peak of the first and the last 5 ms."""
    count = rate // 200
    return max(np.abs(audio[:count]).max(), np.abs(audio[-count:]).max())


def test_parts_begin_and_end_too_quietly_to_click_where_they_are_joined(record, manifest):
    for part, length in zip(record["parts"], record["speech"]["parts"], strict=True):
        audio = whole(part["runs"][-1], "outputs")["audio"].reshape(-1)[:length]
        assert loudest_end(audio, manifest.sample_rate) < CLICK
        cut = audio[int(np.abs(audio).argmax()) :]
        assert loudest_end(cut, manifest.sample_rate) > CLICK


def test_speech_is_heard(record):
    for run in runs(record):
        if run["stage"] == "Tail":
            audio = whole(run, "outputs")["audio"]
            assert 0.05 < np.abs(audio).max() < 1.0


# slow: the network today


@pytest.fixture(scope="module")
def again(recorded_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "recordings"
    write_recordings(recorded_bundle, folder, largest=LARGEST)
    return folder


@pytest.mark.slow
def test_the_bundle_has_the_interface_of_the_recorded_one(again, manifest):
    found = read_manifest(again)
    assert found.packages == manifest.packages, AGAIN
    assert (found.buckets, found.noise, found.voices) == (
        manifest.buckets,
        manifest.noise,
        manifest.voices,
    )
    assert (again / "config.json").read_bytes() == (FOLDER / "config.json").read_bytes()


@pytest.mark.slow
def test_everything_but_rounding_is_recorded_again(again, phrase, record):
    found = read(phrase.id, again)
    for key in ("phonemes", "voice", "speed", "noise_seed", "cut"):
        assert found[key] == record[key]
    assert found["speech"]["durations"] == record["speech"]["durations"], AGAIN
    assert found["speech"]["timestamps"] == record["speech"]["timestamps"]
    assert len(runs(found)) == len(runs(record))
    for one, other in zip(tensors(found), tensors(record), strict=True):
        for key in ("name", "dtype", "shape"):
            assert one[key] == other[key]
        if one["dtype"] == "int32":
            assert one == other, AGAIN


@pytest.mark.slow
def test_the_audio_is_recorded_again(again, record, phrase):
    found = read(phrase.id, again)
    for run, before in zip(runs(found), runs(record), strict=True):
        if run["stage"] == "Tail":
            pair = {
                "reference": whole(before, "outputs")["audio"].reshape(-1),
                "candidate": whole(run, "outputs")["audio"].reshape(-1),
            }
            assert snr_db(**pair) >= LEAST_SNR_DB, AGAIN
            assert log_spectral_distance_db(**pair) <= MOST_SPECTRAL_DISTANCE_DB, AGAIN


@pytest.mark.slow
def test_stages_in_front_of_the_source_are_recorded_again(again, record, phrase):
    found = read(phrase.id, again)
    compared = 0
    for run, before in zip(runs(found), runs(record), strict=True):
        if run["stage"] not in (*TOKEN_STAGES, *FRAME_STAGES[:2]):
            continue
        for one, other in zip(run["outputs"], before["outputs"], strict=True):
            values = [np.array(entry["sample"]["values"]) for entry in (other, one)]
            level = snr_db(reference=values[0], candidate=values[1])
            assert level >= LEAST_SNR_DB, (run["stage"], one["name"])
            compared += 1
    assert compared >= 12
