"""Recordings of the tiny network, by both cuts: what is read back is what ran."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kokoro_coreml.errors import ParityError, PhonemeError, VoiceError
from kokoro_coreml.executor import Program
from kokoro_coreml.goldens import GoldensError, read_index, write_goldens
from kokoro_coreml.goldens.recording import ALWAYS_WHOLE, DEFAULT_PHRASES, Phrase
from kokoro_coreml.goldens.recordings import phrases, write_recordings
from kokoro_coreml.goldens.tensors import values_of
from kokoro_coreml.manifest import Manifest, read_manifest
from kokoro_coreml.recipe import PIPELINE
from kokoro_coreml.synthesis import Speech, Synthesizer
from tests.support.tiny_bundle import PHONEMES

SAID = (Phrase("once", "ɐ tˈɛst.", 1.5), Phrase("parts", PHONEMES + " ɐ tˈɛst."))
"""The second is longer than the largest bucket of tokens."""


@dataclass(frozen=True)
class Made:
    """A bundle, its recordings, and what was said while they were made."""

    bundle: Path
    folder: Path
    speeches: dict[str, Speech]

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.bundle)

    def read(self, name):
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))

    def runs(self, name):
        return [run for part in self.read(name)["parts"] for run in part["runs"]]

    def function(self, run):
        package = next(p for p in self.manifest.packages if p.file == run["package"])
        return package, next(f for f in package.functions if f.name == run["function"])


def made(bundle: Path, folder: Path, *, said=SAID, **given) -> Made:
    speeches, say = {}, Synthesizer.say

    def heard(self, phonemes, **asked):
        speeches[phonemes] = say(self, phonemes, **asked)
        return speeches[phonemes]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Synthesizer, "say", heard)
        write_recordings(bundle, folder, said=said, **given)
    return Made(bundle, folder, speeches)


@pytest.fixture(scope="module")
def pipeline(tiny_pipeline, tmp_path_factory):
    return made(tiny_pipeline / "bundle", tmp_path_factory.mktemp("pipeline") / "recordings")


@pytest.fixture(scope="module")
def complete(tiny_bundle, tmp_path_factory):
    return made(tiny_bundle / "bundle", tmp_path_factory.mktemp("complete") / "recordings")


@pytest.fixture(scope="module", params=["pipeline", "complete"])
def recorded(request):
    return request.getfixturevalue(request.param)


def by_name(tensors):
    return {entry["name"]: values_of(entry) for entry in tensors}


def test_recorded_inputs_give_the_recorded_outputs_again(recorded):
    for run in recorded.runs("once"):
        path = recorded.bundle / run["package"]
        program = Program.load(path, run["function"], precision="declared")
        again, expected = program(by_name(run["inputs"])), by_name(run["outputs"])
        assert again.keys() == expected.keys()
        for key, value in expected.items():
            assert np.array_equal(again[key], value), (run["function"], key)


def test_every_array_has_the_type_and_shape_of_the_manifest(recorded):
    for run in recorded.runs("parts"):
        package, function = recorded.function(run)
        assert run["stage"] == package.stage
        for side in ("inputs", "outputs"):
            ports = {p.name: (p.dtype, p.shape) for p in getattr(function, side)}
            found = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in run[side]}
            assert found == ports


def test_the_speech_is_what_the_synthesizer_gave(recorded):
    for phrase in SAID:
        record, speech = recorded.read(phrase.id), recorded.speeches[phrase.phonemes]
        kept = record["speech"]
        assert np.array_equal(values_of(kept["samples"]), speech.audio)
        durations = np.concatenate([p.spoken.durations for p in speech.parts])
        assert np.array_equal(values_of(kept["durations"]), durations)
        assert kept["timestamps"] == [[t.phoneme, t.start, t.end] for t in speech.timestamps]
        assert kept["parts"] == [p.spoken.audio.size for p in speech.parts]
        found = [(p["phonemes"], p["tokens"], p["frames"]) for p in record["parts"]]
        said = [(p.phonemes, p.bucket.tokens, p.bucket.frames) for p in speech.parts]
        assert found == said


def test_the_samples_are_those_of_the_parts_last_runs(recorded):
    record = recorded.read("parts")
    audio = [by_name(part["runs"][-1]["outputs"])["audio"] for part in record["parts"]]
    lengths = record["speech"]["parts"]
    joined = np.concatenate([a.reshape(-1)[:n] for a, n in zip(audio, lengths, strict=True)])
    assert np.array_equal(joined, values_of(record["speech"]["samples"]))


def test_a_recording_says_what_was_asked_for(recorded):
    once, parts = (recorded.read(phrase.id) for phrase in SAID)
    assert (once["schema"], once["id"], once["phonemes"]) == (1, "once", "ɐ tˈɛst.")
    assert (once["voice"], once["speed"], once["noise_seed"]) == ("af_heart", 1.5, 0)
    assert parts["speed"] == 1.0
    assert len(once["parts"]) == 1
    assert len(parts["parts"]) == 2
    assert once["cut"] == parts["cut"] == recorded.manifest.packages[0].cut


def test_the_stages_of_a_pipeline_stand_in_their_order_and_pass_on_what_they_give(pipeline):
    (part,) = pipeline.read("once")["parts"]
    assert [run["stage"] for run in part["runs"]] == list(PIPELINE)
    given, passed = {}, 0
    for run in part["runs"]:
        for entry in run["inputs"]:
            if entry["name"] in given:
                assert entry == given[entry["name"]], (run["stage"], entry["name"])
                passed += 1
        given |= {entry["name"]: entry for entry in run["outputs"]}
    assert passed >= 15


def test_the_complete_cut_has_no_stages(complete):
    assert {(run["stage"], run["function"]) for run in complete.runs("parts")} == {(None, "main")}


def test_the_bundles_manifest_and_configuration_stand_beside_them(recorded):
    for name in ("manifest.json", "config.json"):
        assert (recorded.folder / name).read_bytes() == (recorded.bundle / name).read_bytes()


def test_the_index_has_the_digest_of_every_file(recorded):
    found = {p.name: p.read_bytes() for p in recorded.folder.iterdir() if p.name != "index.json"}
    assert found.keys() == {"manifest.json", "config.json", "once.json", "parts.json"}
    assert read_index(recorded.folder)["files"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in found.items()
    }


def test_only_what_packages_read_of_each_other_is_left_out(pipeline, tmp_path):
    small = made(pipeline.bundle, tmp_path / "small", said=SAID[:1], largest=500)
    record, whole = small.read("once"), pipeline.read("once")
    for entry, full in zip(_tensors(record), _tensors(whole), strict=True):
        kept = values_of(full).nbytes <= 500 or entry["name"] in ALWAYS_WHOLE
        assert entry == (full if kept else full | {"data": None})
    left_out = {entry["name"] for entry in _tensors(record) if entry["data"] is None}
    assert left_out >= {"noise", "hidden", "har", "samples"}
    assert record["speech"]["timestamps"] == whole["speech"]["timestamps"]


def _tensors(record):
    runs = [run for part in record["parts"] for run in part["runs"]]
    own = [record["speech"]["samples"], record["speech"]["durations"]]
    return [entry for run in runs for entry in (*run["inputs"], *run["outputs"])] + own


def test_every_run_stands_on_a_line(recorded):
    lines = (recorded.folder / "parts.json").read_text(encoding="utf-8").splitlines()
    runs = [json.loads(line.removesuffix(",")) for line in lines if line.startswith('{"package"')]
    assert runs == recorded.runs("parts")


# what is refused


def test_earlier_recordings_are_replaced_only_when_asked(complete, tmp_path):
    one = (Phrase("one", "ɐ tˈɛst."),)
    write_recordings(complete.bundle, tmp_path / "r", said=SAID[:1])
    with pytest.raises(GoldensError, match="holds golden files already; use --force"):
        write_recordings(complete.bundle, tmp_path / "r", said=one)
    assert (tmp_path / "r/once.json").is_file()
    (tmp_path / "r/mine.txt").write_text("mine")
    write_recordings(complete.bundle, tmp_path / "r", said=one, force=True)
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert names == {"index.json", "manifest.json", "config.json", "one.json", "mine.txt"}


def test_golden_files_of_functions_and_recordings_never_replace_each_other(complete, tmp_path):
    write_goldens(tmp_path / "functions")
    with pytest.raises(GoldensError, match=r"another kind .*no manifest\.json"):
        write_recordings(complete.bundle, tmp_path / "functions", said=SAID[:1], force=True)
    with pytest.raises(GoldensError, match=r"another kind .*no vocabulary\.json"):
        write_goldens(complete.folder, force=True)
    assert (complete.folder / "once.json").is_file()


def test_a_bundle_stays_as_it_is(complete):
    for place in (complete.bundle, complete.bundle / "recordings"):
        with pytest.raises(GoldensError, match="lies in the bundle"):
            write_recordings(complete.bundle, place, force=True)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"said": (Phrase("x", "wˈ\u0000"),)}, PhonemeError),
        ({"said": SAID, "voice": "nobody"}, VoiceError),
        ({"said": (*SAID[:1], Phrase("once", "ɐ"))}, GoldensError),
        ({"said": (Phrase("manifest", "ɐ"),)}, GoldensError),
        ({"said": (Phrase("index", "ɐ"),)}, GoldensError),
    ],
)
def test_nothing_is_written_when_something_cannot_be_said(complete, tmp_path, given, error):
    with pytest.raises(error):
        write_recordings(complete.bundle, tmp_path / "r", **given)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_is_not_recorded(complete, tmp_path, monkeypatch):
    call = Program.__call__

    def broken(self, inputs, **given):
        outputs = call(self, inputs, **given)
        outputs["audio"].flat[-1] = np.nan
        return outputs

    monkeypatch.setattr(Program, "__call__", broken)
    with pytest.raises(ParityError, match="NaN"):
        write_recordings(complete.bundle, tmp_path / "r", said=SAID)
    assert list(tmp_path.iterdir()) == []


def test_phrases_are_the_default_ones_unless_others_are_given():
    assert phrases() == DEFAULT_PHRASES
    assert {phrase.speed for phrase in phrases(speed=0.5)} == {0.5}
    assert phrases(["a", "b"]) == (Phrase("phonemes-1", "a"), Phrase("phonemes-2", "b"))
    assert phrases(["a"], speed=2.0) == (Phrase("phonemes-1", "a", 2.0),)
