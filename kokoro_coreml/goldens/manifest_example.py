"""The manifest that others are made from: a pipeline's, shortened to its last stage."""

from __future__ import annotations

from kokoro_coreml.config import SAMPLE_RATE
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
)
from kokoro_coreml.noise import ALGORITHM

DIGEST = "5abb01e2403b072bf03d04fde160443e209d7a0dad49a423be15196b9b43c17f"
"""Of the 82 M checkpoint's `config.json`."""

VOICE_BYTES = 522_240


def functions_at(tokens: int, frames: int) -> FunctionRecord:
    """A function of the cut `complete` at a bucket."""
    return FunctionRecord(
        f"main_{tokens}x{frames}",
        BucketRecord(tokens, frames),
        (TensorRecord("input_ids", "int32", (1, tokens)),),
        (TensorRecord("audio", "float32", (1, 1, frames * 600)),),
    )


def example() -> Manifest:
    """A manifest as a bundle of the cut `pipeline` has it."""
    return Manifest(
        schema_version=1,
        project_version="0.1.0",
        recipe=RecipeRecord("kokoro-82m", {"cut": "pipeline"}),
        checkpoint=CheckpointRecord(
            "packaged",
            "PyPI",
            None,
            {"config.json": DIGEST},
            "Apache-2.0",
            None,
            ("rebuilt",),
        ),
        sample_rate=SAMPLE_RATE,
        samples_per_frame=600,
        max_phonemes=510,
        vocabulary="config.json",
        packages=(_tail(),),
        buckets=(BucketRecord(None, 256), BucketRecord(None, 512)),
        noise=NoiseRecord(ALGORITHM, 0),
        voices=(VoiceRecord("af_heart", "voices/af_heart.bin", 510, 256, "float32", "Apache-2.0"),),
        sample=SampleRecord("sample.wav", "Hello world.", "həlˈO wˈɜɹld.", "af_heart", 1.0),
        tools={"torch": "2.13.0"},
        parity=ParityRecord("passed", "executor", (_leg(),)),
        files={
            "Tail.mlpackage/Manifest.json": FileRecord(DIGEST, 617),
            "config.json": FileRecord(DIGEST, 2_351),
            "sample.wav": FileRecord(DIGEST, 44),
            "voices/af_heart.bin": FileRecord(DIGEST, VOICE_BYTES),
        },
    )


def _tail() -> PackageRecord:
    made = tuple(
        FunctionRecord(
            f"frames_{frames}",
            BucketRecord(None, frames),
            (TensorRecord("hidden", "float16", (1, 128, rows, 15_840)),),
            (TensorRecord("audio", "float32", (1, frames * 600)),),
        )
        for frames, rows in ((256, 2), (512, 4))
    )
    return PackageRecord(
        "Tail.mlpackage", "pipeline", "Tail", made, "float32", "iOS18", "CPU_AND_NE"
    )


def _leg() -> LegRecord:
    return LegRecord(
        "words",
        "passed",
        {"audio_snr_db": 40.993787098983454},
        {"audio_snr_db": 35.0},
    )
