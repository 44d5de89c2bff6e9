"""The whole way on the real weights: convert, run what was saved from disk, compare with upstream.

Everything here is slow and runs in CI.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kokoro_coreml.audio import read_wav
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.conversion import ConversionResult, convert
from kokoro_coreml.executor import Program
from kokoro_coreml.lowering import lower, trace
from kokoro_coreml.modules.complete import Boundaries, KokoroCompleteCoreML
from kokoro_coreml.noise import source_noise
from kokoro_coreml.parity.metrics import log_spectral_distance_db, snr_db
from kokoro_coreml.parity.reference import Reference, ReferenceSpeech
from kokoro_coreml.parity.request import EVERY_LEG, Request
from kokoro_coreml.parity.stages import TAPS, stage_snr_db
from kokoro_coreml.parity.suite import suite_voices_folder
from kokoro_coreml.parity.summary import summary
from kokoro_coreml.parity.thresholds import LEGS
from kokoro_coreml.parity.verification import verify
from kokoro_coreml.recipe import Bucket, Recipe, load_recipe
from kokoro_coreml.stages import Port, Stage, complete_stage
from kokoro_coreml.synthesis import Spoken, Utterance, speak
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import load_voice

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data"
BUCKETS = (Bucket(128, 256), Bucket(128, 400), Bucket(256, 800))
MAIN = Bucket(128, 400)
VOICES = ("af_heart", "am_michael", "ff_siwis", "em_alex")

SENTENCES: list[dict[str, Any]] = tomllib.loads(
    (DATA / "sentences.toml").read_text(encoding="utf-8")
)["sentences"]
ONE_PER_VOICE = {s["voice"]: s for s in sorted(SENTENCES, key=lambda s: len(s["phonemes"]))}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("complete")


@pytest.fixture(scope="module")
def result(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> ConversionResult:
    out = tmp_path_factory.mktemp("real") / "bundle"
    return convert(recipe, checkpoint="packaged", out=out)


@pytest.fixture(scope="module")
def programs(
    result: ConversionResult,
    packaged: Checkpoint,
    recipe: Recipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[Bucket, Program]:
    """The bundle's package, and the same network saved for other buckets."""
    loaded = {MAIN: Program.load(result.bundle / result.manifest.packages[0].file)}
    folder = tmp_path_factory.mktemp("buckets")
    for bucket in BUCKETS[::2]:
        stage = complete_stage(packaged, bucket, noise_seed=recipe.noise.seed)
        lower(trace(stage), stage, recipe.build(stage.name), folder / f"{stage}.mlpackage")
        loaded[bucket] = Program.load(folder / f"{stage}.mlpackage")
    return loaded


def _utterance(checkpoint: Checkpoint, sentence: Mapping[str, Any]) -> Utterance:
    ids = Vocabulary.from_config(checkpoint.config).encode(sentence["phonemes"])
    voice = load_voice(sentence["voice"], config=checkpoint.config, search=[suite_voices_folder()])
    return Utterance(tuple(ids), voice.row(len(sentence["phonemes"])))


@pytest.fixture(scope="module")
def said(
    programs: Mapping[Bucket, Program],
    packaged: Checkpoint,
    packaged_reference: Reference,
    recipe: Recipe,
) -> dict[str, tuple[Spoken, ReferenceSpeech]]:
    """One sentence per voice, by the saved package and by upstream."""
    pairs = {}
    for voice in VOICES:
        utterance = _utterance(packaged, ONE_PER_VOICE[voice])
        spoken = speak(programs[MAIN], utterance, MAIN.tokens)
        reference = packaged_reference.speak(
            list(utterance.ids), utterance.ref_s, noise=recipe.noise.seed
        )
        pairs[voice] = (spoken, reference)
    return pairs


@pytest.mark.parametrize("voice", VOICES)
def test_durations_are_upstreams(
    said: Mapping[str, tuple[Spoken, ReferenceSpeech]], voice: str
) -> None:
    spoken, reference = said[voice]
    assert np.array_equal(spoken.durations, reference.durations)
    assert spoken.audio.size == reference.audio.size


@pytest.mark.parametrize("voice", VOICES)
def test_audio_is_upstreams_under_the_same_noise(
    said: Mapping[str, tuple[Spoken, ReferenceSpeech]], voice: str, recipe: Recipe
) -> None:
    spoken, reference = said[voice]
    pair = {"reference": reference.audio, "candidate": spoken.audio}
    assert snr_db(**pair) >= recipe.parity.audio_snr_db
    assert log_spectral_distance_db(**pair) <= recipe.parity.log_spectral_distance_db


@pytest.mark.parametrize("voice", VOICES)
def test_silence_after_the_end(
    said: Mapping[str, tuple[Spoken, ReferenceSpeech]], voice: str
) -> None:
    padding = said[voice][0].padding
    assert padding.size > 0
    assert np.all(padding == 0)


def test_upstreams_own_two_runs_are_further_apart_than_the_package_is(
    said: Mapping[str, tuple[Spoken, ReferenceSpeech]],
    packaged: Checkpoint,
    packaged_reference: Reference,
) -> None:
    spoken, reference = said["af_heart"]
    utterance = _utterance(packaged, ONE_PER_VOICE["af_heart"])
    again = packaged_reference.speak(list(utterance.ids), utterance.ref_s, noise=99)
    own = snr_db(reference=reference.audio, candidate=again.audio)
    ours = snr_db(reference=reference.audio, candidate=spoken.audio)
    assert ours > own + 10


def test_the_same_sentence_agrees_in_every_bucket(
    programs: Mapping[Bucket, Program], packaged: Checkpoint, recipe: Recipe
) -> None:
    utterance = _utterance(packaged, {**ONE_PER_VOICE["af_heart"], **_sample(recipe)})
    spoken = [speak(programs[b], utterance, b.tokens).audio for b in BUCKETS]
    for other in spoken[1:]:
        found = snr_db(reference=spoken[0], candidate=other)
        assert found >= recipe.parity.bucket_snr_db


def _sample(recipe: Recipe) -> dict[str, str]:
    return {"phonemes": recipe.sample.phonemes, "voice": recipe.sample.voice}


class _Taps(torch.nn.Module):
    """The complete network with everything that passes between its modules as outputs."""

    def __init__(self, network: KokoroCompleteCoreML) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> Boundaries:
        return self.network.boundaries(*inputs)


@pytest.fixture(scope="module")
def tapped(
    packaged: Checkpoint, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Program:
    stage = complete_stage(packaged, MAIN, noise_seed=recipe.noise.seed)
    outputs = tuple(Port(f"tap_{name}", "float32", (), "") for name in TAPS)
    stage = Stage("Taps", _Taps(stage.module), MAIN.tokens, MAIN.frames, stage.inputs, outputs)
    path = tmp_path_factory.mktemp("taps") / f"{stage}.mlpackage"
    lower(trace(stage), stage, recipe.build(stage.name), path)
    return Program.load(path)


@pytest.mark.parametrize("voice", VOICES)
def test_each_module_stage_equals_upstream_fed_the_same_inputs(
    tapped: Program,
    packaged: Checkpoint,
    packaged_reference: Reference,
    recipe: Recipe,
    voice: str,
) -> None:
    utterance = _utterance(packaged, ONE_PER_VOICE[voice])
    outputs = tapped(utterance.inputs(MAIN.tokens))
    taps = {name: outputs[f"tap_{name}"] for name in TAPS}
    noise = source_noise(recipe.noise.seed, packaged.config.samples_per_frame * MAIN.frames)
    found = stage_snr_db(packaged_reference, utterance, taps, noise=noise)
    assert len(found) == 12
    assert {n: db for n, db in found.items() if not db >= recipe.parity.module_snr_db} == {}


def test_operations_of_the_saved_package(programs: Mapping[Bucket, Program]) -> None:
    """Guards the graph: what would be lost or slipped in without a numeric change."""
    kinds = [operation.type for operation in programs[MAIN].operations]
    assert kinds.count("lstm") == 6
    assert kinds.count("conv_transpose") == 7
    assert not {"mod", "floor_div", "inverse", "while_loop", "non_zero"} & set(kinds)
    assert not [kind for kind in kinds if kind.startswith("random")]


def test_speech_recognition_returns_the_words_of_the_sample(
    result: ConversionResult, recipe: Recipe
) -> None:
    from tests.support.recognition import transcribe, words

    audio = read_wav(result.bundle / "sample.wav")
    assert words(transcribe(audio)) == words(recipe.sample.text)


def test_verify_passes_in_float32_by_every_leg(result: ConversionResult) -> None:
    report = verify(Request(result.bundle, precision="float32")).report
    assert report.verdict == "passed", summary(report)
    assert {leg.name: leg.verdict for leg in report.legs} == {
        **dict.fromkeys(("inputs = upstream", *LEGS), "passed"),
        "coreml = upstream": "not run",
    }
    assert report.suspects == ()
    compared = {o.name for o in report.operations}
    executed = sum(1 for o in Program.load(_package(result)).operations if o.type != "const")
    assert len(compared) > 0.9 * executed
    assert min(o.local_snr_db for o in report.operations) > 120
    assert sum(case.words_candidate is not None for case in report.cases) == 3


def test_verify_reports_declared_precision(result: ConversionResult) -> None:
    """Nothing is declared in half precision here, so the numbers are float32's."""
    kept = ("inputs = upstream", "package = upstream")
    waive = tuple(name for name in EVERY_LEG if name not in kept)
    report = verify(Request(result.bundle, precision="declared", waive=waive)).report
    assert report.verdict == "passed", summary(report)
    assert report.precision == "declared"
    (leg,) = [leg for leg in report.legs if leg.name == "package = upstream"]
    assert "nothing is declared in half precision" in str(leg.detail)


def _package(result: ConversionResult) -> Path:
    return result.bundle / result.manifest.packages[0].file
