"""The pipeline with stages that are stand-ins: which buckets, which refusals, what is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kokoro_coreml.errors import BundleError, ParityError, PhonemeError
from kokoro_coreml.manifest import BucketRecord, FunctionRecord, PackageRecord, TensorRecord
from kokoro_coreml.noise import gaussian
from kokoro_coreml.recipe import FRAME_STAGES, PIPELINE, TOKEN_STAGES, Bucket
from kokoro_coreml.synthesis import FrameOverflowError, Utterance
from kokoro_coreml.synthesis.pipeline import Pipeline
from kokoro_coreml.synthesis.stages import PackagedStages
from tests.support.folded import real_config

INPUTS = {
    "Encoder": ("input_ids", "attention_mask"),
    "Duration": ("encoded", "input_ids", "attention_mask", "ref_s", "speed"),
    "Prosody": ("d", "pred_dur", "ref_s"),
    "Decoder": ("asr",),
    "Source": ("f0", "frames", "random_phases", "noise"),
    "Generator": ("features", "har"),
    "Tail": ("hidden", "frames"),
}


@dataclass
class Stand:
    """Every token lasts `each` frames; the audio is 1 for speech and 0 behind it."""

    each: int = 10
    tokens: tuple[int, ...] = (8, 16, 64)
    frames: tuple[int, ...] = (128, 256)
    calls: list[str] = field(default_factory=list)
    spoil: tuple[str, float] | None = None
    """A stage and what it gives in place of its numbers."""
    stray: int = 0
    """Frames for the first token of the padding."""
    seen: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def inputs(self, name: str, _size: int) -> tuple[str, ...]:
        return INPUTS[name]

    def stage(self, name: str, size: int) -> Any:
        def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.calls.append(f"{name} {size}")
            self.seen[name] = inputs
            outputs = self._outputs(name, size, inputs)
            if self.spoil is not None and self.spoil[0] == name:
                first = next(key for key, v in outputs.items() if v.dtype.kind == "f")
                outputs[first].flat[-1] = self.spoil[1]
            return outputs

        return run

    def _outputs(
        self, name: str, size: int, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        one = np.ones((1, 4), dtype=np.float32)
        if name == "Duration":
            mask = inputs["attention_mask"].reshape(1, -1)
            durations = np.zeros((1, 512), dtype=np.int32)
            durations[:, : mask.shape[1]] = mask * self.each
            durations[0, int(mask.sum())] += self.stray
            return {"d": one.copy(), "pred_dur": durations}
        if name == "Tail":
            audio = np.zeros((1, size * 600), dtype=np.float32)
            audio[:, : int(inputs["frames"][0]) * 600] = 1.0
            return {"audio": audio}
        given = {
            "Encoder": ("encoded",),
            "Prosody": ("f0", "asr"),
            "Decoder": ("features",),
            "Source": ("har",),
            "Generator": ("hidden",),
        }
        return {key: one.copy() for key in given[name]}


def utterance(phonemes: int, **changes: Any) -> Utterance:
    ids = (0, *range(1, phonemes + 1), 0)
    return Utterance(ids, np.full((1, 256), 0.5, dtype=np.float32), **changes)


def pipeline(stand: Stand, seed: int = 0) -> Pipeline:
    return Pipeline(stand, real_config(), noise_seed=seed)


@pytest.mark.parametrize(
    ("phonemes", "each", "tokens", "frames"),
    [
        (6, 10, 8, 128),
        (7, 10, 16, 128),
        (14, 8, 16, 128),
        (14, 9, 16, 256),
        (62, 2, 64, 128),
        (62, 4, 64, 256),
    ],
)
def test_the_text_chooses_the_tokens_and_the_durations_the_frames(
    phonemes: int, each: int, tokens: int, frames: int
) -> None:
    stand = Stand(each)
    flow = pipeline(stand).speak(utterance(phonemes))
    assert flow.bucket == Bucket(tokens, frames)
    assert stand.calls == [
        *(f"{name} {tokens}" for name in TOKEN_STAGES),
        *(f"{name} {frames}" for name in FRAME_STAGES),
    ]
    count = (phonemes + 2) * each
    assert flow.spoken.audio.size == count * 600
    assert np.all(flow.spoken.audio == 1)
    assert flow.spoken.padding.size == (frames - count) * 600
    assert np.all(flow.spoken.padding == 0)
    assert flow.spoken.durations.tolist() == [each] * (phonemes + 2)


def test_exactly_full_buckets_are_used() -> None:
    flow = pipeline(Stand(16)).speak(utterance(6))
    assert flow.bucket == Bucket(8, 128)
    assert flow.spoken.padding.size == 0


def test_more_tokens_than_any_bucket_holds_are_refused() -> None:
    with pytest.raises(PhonemeError, match=r"needs 65 tokens, more than the largest bucket \(64\)"):
        pipeline(Stand()).speak(utterance(63))


def test_more_frames_than_any_bucket_holds_are_refused_in_samples() -> None:
    stand = Stand(33)
    with pytest.raises(FrameOverflowError, match=r"needs 158400 samples.*holds 153600") as caught:
        pipeline(stand).speak(utterance(6))
    assert caught.value.needed == 8 * 33 * 600
    assert stand.calls == ["Encoder 8", "Duration 8"]


def test_a_bucket_may_be_chosen_and_still_must_hold_the_speech() -> None:
    stand = Stand()
    flow = pipeline(stand).speak(utterance(6), bucket=Bucket(64, 256))
    assert flow.bucket == Bucket(64, 256)
    assert stand.calls[0] == "Encoder 64"
    assert stand.calls[-1] == "Tail 256"
    with pytest.raises(FrameOverflowError) as caught:
        pipeline(Stand(20)).speak(utterance(6), bucket=Bucket(8, 128))
    assert caught.value.needed == 160 * 600


@pytest.mark.parametrize("name", PIPELINE)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_is_named_with_its_stage(name: str, value: float) -> None:
    stand = Stand(spoil=(name, value))
    with pytest.raises(ParityError, match=f"the stage {name} gave NaN or infinity in '"):
        pipeline(stand).speak(utterance(6))
    assert stand.calls[-1].startswith(name)


def test_durations_in_the_padding_are_refused() -> None:
    with pytest.raises(ParityError, match="durations to padding"):
        pipeline(Stand(stray=1)).speak(utterance(6))


@pytest.mark.parametrize("each", [0, -3])
def test_no_frames_are_no_speech(each: int) -> None:
    with pytest.raises(ParityError, match=f"gave {8 * each} frames of speech"):
        pipeline(Stand(each)).speak(utterance(6))


def test_what_each_stage_is_given() -> None:
    stand = Stand()
    said = utterance(6, speed=1.5, phases=tuple(i / 10 for i in range(9)))
    pipeline(stand, seed=7).speak(said)
    encoder, duration, source = (stand.seen[name] for name in ("Encoder", "Duration", "Source"))
    assert encoder["input_ids"].shape == encoder["attention_mask"].shape == (1, 1, 1, 8)
    assert encoder["input_ids"].dtype == np.float32
    assert encoder["input_ids"].reshape(-1).tolist() == list(said.ids)
    assert duration["input_ids"].shape == (1, 8)
    assert duration["input_ids"].dtype == duration["attention_mask"].dtype == np.int32
    assert duration["speed"].tolist() == [1.5]
    assert np.array_equal(duration["ref_s"], said.ref_s)
    assert source["frames"].tolist() == [80]
    assert source["frames"].dtype == np.int32
    assert np.allclose(source["random_phases"], [[i / 10 for i in range(9)]])
    assert source["noise"].shape == (1, 256, 300)
    assert np.array_equal(source["noise"].reshape(-1), gaussian(7, 128 * 600))
    assert stand.seen["Tail"]["frames"].tolist() == [80]


def test_every_stage_is_reported_with_what_it_took_and_gave() -> None:
    heard: list[str] = []

    def on_stage(
        name: str, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> None:
        assert tuple(inputs) == INPUTS[name]
        assert outputs
        heard.append(name)

    flow = pipeline(Stand()).speak(utterance(6), on_stage=on_stage)
    assert heard == list(PIPELINE)
    assert {"encoded", "f0", "har", "hidden", "audio", "noise"} <= set(flow.values)


# packages


def function(name: str, axis: str, size: int) -> FunctionRecord:
    bucket = BucketRecord(size, None) if axis == "tokens" else BucketRecord(None, size)
    inputs = tuple(TensorRecord(port, "float32", (1,)) for port in INPUTS[name])
    return FunctionRecord(f"{axis}_{size}", bucket, inputs, ())


def package(name: str, sizes: tuple[int, ...]) -> PackageRecord:
    axis = "tokens" if name in TOKEN_STAGES else "frames"
    functions = tuple(function(name, axis, size) for size in sizes)
    return PackageRecord(
        f"{name}.mlpackage", "pipeline", name, functions, "float32", "iOS18", "CPU_ONLY"
    )


def packages(**other: tuple[int, ...]) -> list[PackageRecord]:
    sizes = {name: (8, 64) if name in TOKEN_STAGES else (256, 128) for name in PIPELINE} | other
    return [package(name, found) for name, found in sizes.items() if found]


@dataclass
class Loader:
    loaded: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, path: Path, function: str, units: str) -> Any:
        self.loaded.append((str(path), function, units))
        return Stand().stage(path.stem, int(function.split("_")[1]))


def test_buckets_rise_and_nothing_is_loaded_before_it_is_needed() -> None:
    load = Loader()
    stages = PackagedStages(Path("b"), packages(), load)
    assert (stages.tokens, stages.frames) == ((8, 64), (128, 256))
    assert load.loaded == []
    stages.stage("Tail", 256)
    assert load.loaded == [("b/Tail.mlpackage", "frames_256", "CPU_ONLY")]
    assert stages.inputs("Tail", 256) == INPUTS["Tail"]
    record, found = stages.function("Tail", 256)
    assert (record.file, found.name) == ("Tail.mlpackage", "frames_256")


@pytest.mark.parametrize(("keep_all", "again"), [(False, 1), (True, 0)])
def test_one_function_of_each_stage_is_kept_unless_all_are(keep_all: bool, again: int) -> None:
    load = Loader()
    stages = PackagedStages(Path("b"), packages(), load, keep_all=keep_all)
    first = stages.stage("Tail", 128)
    stages.stage("Source", 128)
    assert stages.stage("Tail", 128) is first
    stages.stage("Tail", 256)
    before = len(load.loaded)
    stages.stage("Source", 128)
    assert len(load.loaded) == before
    stages.stage("Tail", 128)
    assert len(load.loaded) == before + again


def test_a_pipeline_runs_on_packaged_stages_and_loads_each_function_once() -> None:
    load = Loader()
    stages = PackagedStages(Path("b"), packages(), load)
    speaker = Pipeline(stages, real_config(), noise_seed=0)
    for _ in range(2):
        assert speaker.speak(utterance(6)).bucket == Bucket(8, 128)
    assert len(load.loaded) == len(PIPELINE)


@pytest.mark.parametrize(
    "changes",
    [
        {"Encoder": (8,)},
        {"Duration": (8, 32)},
        {"Generator": (128,)},
        {"Tail": (128, 256, 512)},
        {"Source": ()},
        dict.fromkeys(TOKEN_STAGES, ()),
    ],
)
def test_stages_of_unequal_buckets_are_refused(changes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(BundleError, match="must have the same buckets"):
        PackagedStages(Path("b"), packages(**changes), Loader())


def test_packages_of_the_other_cut_are_no_stages() -> None:
    complete = [replace(record, cut="complete", stage=None) for record in packages()]
    with pytest.raises(BundleError, match=r"Encoder \[\], Duration \[\].*has the stages Encoder"):
        PackagedStages(Path("b"), complete, Loader())
    both = [*complete, *packages()]
    assert PackagedStages(Path("b"), both, Loader()).frames == (128, 256)
