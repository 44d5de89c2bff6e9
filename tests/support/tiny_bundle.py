"""A bundle of the tiny random network, and copies of it with one thing changed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.proto import Model_pb2

from kokoro_coreml import conversion
from kokoro_coreml.bundle import seal
from kokoro_coreml.checkpoint import write_pth
from kokoro_coreml.lowering import lower, trace
from kokoro_coreml.manifest import read_manifest
from kokoro_coreml.parity.request import EVERY_LEG, Request
from kokoro_coreml.parity.results import Report, Threshold
from kokoro_coreml.parity.thresholds import thresholds_for
from kokoro_coreml.parity.verification import verify
from kokoro_coreml.recipe import TOKEN_STAGES, Bucket, load_recipe
from kokoro_coreml.resources import recipes_folder
from kokoro_coreml.stages import complete_stage
from tests.support.tiny import tiny_checkpoint, tiny_config

TOKENS, FRAMES = 32, 208
PACKAGE = f"KokoroComplete_{TOKENS}x{FRAMES}.mlpackage"
PHONEMES = "hˈɛlO, ðɪs ɪz ə tˈɛst."

RECIPE = {
    "name": '"tiny"',
    "bundle": '"tiny"',
    "tokens": str(TOKENS),
    "frames": str(FRAMES),
    "phonemes": f'"{PHONEMES}"',
    # a random network amplifies flips at the branch cut
    "audio_snr_db": "20.0",
    "rewrite_snr_db": "45.0",
    "bucket_snr_db": "20.0",
    "log_spectral_distance_db": "1.5",
}

PIPELINE_TOKENS, PIPELINE_FRAMES = (24, 32), (128, 256)

LOOSE = {
    "audio_snr_db": 20.0,
    "log_spectral_distance_db": 1.5,
    "rewrite_snr_db": 45.0,
    "opening_snr_db": 30.0,
    "tail_snr_db": 30.0,
    "exact_snr_db": 10.0,
    "padded_snr_db": 10.0,
    "snr_above_yardstick_db": 0.0,
    "log_mel_cosine": 0.99,
    "f0_error_hz": 20.0,
    "voicing_errors_percent": 20.0,
    "gross_pitch_errors_percent": 20.0,
    "level_difference_db": 0.2,
    "opening_error_db": -10.0,
    "tail_error_db": -10.0,
}
"""Bounds on audio that a random network can keep; those on modules and operations stay."""


def tiny_thresholds() -> tuple[Threshold, ...]:
    """The named thresholds with the audio's loosened."""
    return tuple(replace(t, bound=LOOSE.get(t.metric, t.bound)) for t in thresholds_for("float32"))


PIPELINE_LOOSE = {
    "rewrite_snr_db": 80.0,
    "float32_snr_db": 10.0,
    "loss_db": 40.0,
    "rounding_distance_db": 4.0,
    "distance_over_rounding": 40.0,
}
"""Further bounds for the tiny pipeline; those on stages stay as they are."""


def pipeline_thresholds(precision: str) -> tuple[Threshold, ...]:
    """The named thresholds of a pipeline with the audio's loosened."""
    loose = LOOSE | PIPELINE_LOOSE
    found = thresholds_for(precision, None, "pipeline")
    return tuple(replace(t, bound=loose.get(t.metric, t.bound)) for t in found)


def write_checkpoint(folder: Path) -> Path:
    """The tiny weights as a folder that `--checkpoint` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pth(tiny_checkpoint(), folder / "tiny.pth")
    (folder / "config.json").write_text(json.dumps(tiny_config()), encoding="utf-8")
    return folder


def write_suite(path: Path) -> Path:
    """Two cases of the tiny bundle; a random network says no words."""
    path.write_text(
        f"""
name = "tiny"
description = "what the tiny network says"
[[cases]]
id = "hello"
language = "en-us"
text = "Hello, this is a test."
phonemes = "{PHONEMES}"
voice = "af_heart"
[[cases]]
id = "quick"
language = "en-us"
text = "A test."
phonemes = "ɐ tˈɛst."
voice = "am_michael"
speed = 1.5
""",
        encoding="utf-8",
    )
    return path


def fill_folder(folder: Path) -> None:
    """Write `tiny.toml`, `weights`, `suite.toml` and the `bundle` made of them."""
    write_suite(folder / "suite.toml")
    text = (recipes_folder() / "complete.toml").read_text(encoding="utf-8")
    for key, value in RECIPE.items():
        text, found = re.subn(rf"(?m)^{key} = .*$", lambda _, k=key, v=value: f"{k} = {v}", text)
        assert found == 1
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    weights = write_checkpoint(folder / "weights")
    conversion.convert(load_recipe(path), checkpoint=str(weights), out=folder / "bundle")


def changed_copy(
    bundle: Path, target: Path, change: Callable[[Any, Path], None], package: str = PACKAGE
) -> Path:
    """Copy a bundle, change one package, and seal it again as if nothing were.

    `change` takes the parsed model, and the path of the weight file.
    """
    shutil.copytree(bundle, target)
    folder = target / package / "Data" / "com.apple.CoreML"
    path, weights = folder / "model.mlmodel", folder / "weights" / "weight.bin"
    model = Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    before = _digest(model, weights)
    change(model, weights)
    assert _digest(model, weights) != before, "the fault was not planted"
    path.write_bytes(model.SerializeToString())
    return reseal(target)


def _digest(model: Any, weights: Path) -> bytes:
    content = model.SerializeToString(deterministic=True) + weights.read_bytes()
    return hashlib.sha256(content).digest()


def reseal(bundle: Path) -> Path:
    """Write the manifest anew, with the hashes of what is there."""
    manifest = read_manifest(bundle)
    (bundle / "manifest.json").unlink()
    seal(bundle, manifest)
    return bundle


def operations(model: Any, name: str = "main") -> Any:
    """The operations of a function."""
    function = model.mlProgram.functions[name]
    return function.block_specializations[function.opset].operations


def named(model: Any, name: str) -> Any:
    """The operation that defines a value."""
    return next(o for o in operations(model) for out in o.outputs if out.name == name)


def of_type(model: Any, kind: str) -> list[Any]:
    """All operations of a type, in order."""
    return [o for o in operations(model) if o.type == kind]


def constant(model: Any, operation: Any, key: str) -> Any:
    """The `Value` of the constant bound to an operation's parameter, as `own_constant` gives it."""
    return own_constant(operations(model), operation, key)


def own_constant(operations: Any, operation: Any, key: str) -> Any:
    """The `Value` of a copy of the constant bound to a parameter, which no other operation uses."""
    bound = operation.inputs[key].arguments[0]
    at, found = next((i, o) for i, o in enumerate(operations) if o.outputs[0].name == bound.name)
    copy = type(found)()
    copy.CopyFrom(found)
    copy.outputs[0].name = bound.name = f"{bound.name}_{key}_of_{operation.outputs[0].name}"
    operations.insert(at, copy)
    return operations[at].attributes["val"]


def edit_weight(model: Any, weights: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Replace a float32 constant of the weight file; `change` gets an array and gives one."""
    value = named(model, name).attributes["val"]
    shape = [d.constant.size for d in value.type.tensorType.dimensions]
    content = bytearray(weights.read_bytes())
    at = value.blobFileValue.offset
    (start,) = struct.unpack_from("<Q", content, at + 16)
    count = int(np.prod(shape))
    array = np.frombuffer(content, "<f4", count, start).reshape(shape).copy()
    content[start : start + 4 * count] = np.ascontiguousarray(change(array), "<f4").tobytes()
    weights.write_bytes(bytes(content))


PACKAGE_LEGS = ("inputs = upstream", "package = rewrite", "package = upstream")


@dataclass(frozen=True)
class Bench:
    """A sound bundle, which other workers read too, and what verifies copies of it."""

    folder: Path
    """As `fill_folder` left it."""
    scratch: Path
    """Where the copies go."""

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    def verify(self, bundle: Path, *legs: str) -> Report:
        """Verify by some of the legs, or by all of them."""
        waive = tuple(leg for leg in EVERY_LEG if legs and leg not in legs)
        request = Request(
            bundle,
            precision="float32",
            suite=str(self.folder / "suite.toml"),
            checkpoint=str(self.folder / "weights"),
            thresholds=tiny_thresholds(),
            waive=waive,
        )
        return verify(request).report

    def planted(self, name: str, change: Callable[[Any, Path], None], *legs: str) -> Report:
        """Plant a fault in a copy of the package."""
        copy = changed_copy(self.bundle, self.scratch / name, change)
        try:
            return self.verify(copy, *(legs or PACKAGE_LEGS))
        finally:
            shutil.rmtree(copy)

    def lowered_anew(self, name: str, **target: Any) -> Path:
        """A copy of the bundle whose package is made by the code as it is now.

        `target`: fields of the recipe's target to replace.
        """
        copy = self.scratch / name
        shutil.copytree(self.bundle, copy)
        shutil.rmtree(copy / PACKAGE)
        stage = complete_stage(tiny_checkpoint(), Bucket(TOKENS, FRAMES), noise_seed=0)
        lower(
            trace(stage),
            stage,
            replace(load_recipe("complete").build(stage.name), **target),
            copy / PACKAGE,
        )
        return reseal(copy)


@dataclass(frozen=True)
class PipelineBench:
    """The same for a bundle of the cut `pipeline`."""

    folder: Path
    """As `tiny_pipeline.fill_folder` left it."""
    scratch: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    def verify(
        self, bundle: Path, *legs: str, precision: str = "float32", runtime: str = "executor"
    ) -> Report:
        """Verify by some of the legs, or by all of them."""
        half = precision != "float32"
        request = Request(
            bundle,
            precision=precision,
            runtime=runtime,
            compute_units=("CPU_AND_NE",) if runtime == "coreml" else (),
            suite=str(self.folder / "suite.toml"),
            checkpoint=str(self.folder / "weights"),
            thresholds=pipeline_thresholds("float16" if half else "float32"),
            waive=tuple(leg for leg in EVERY_LEG if legs and leg not in legs),
        )
        return verify(request).report

    def planted(
        self, stage: str, change: Callable[[Any], None], *legs: str, precision: str = "float32"
    ) -> Report:
        """Plant a fault in every function of one stage of a copy.

        `change` is given the operations of one function.
        """
        sizes = PIPELINE_TOKENS if stage in TOKEN_STAGES else PIPELINE_FRAMES
        axis = "tokens" if stage in TOKEN_STAGES else "frames"

        def everywhere(model: Any, _weights: Path) -> None:
            for size in sizes:
                change(operations(model, f"{axis}_{size}"))

        target = self.scratch / "planted"
        copy = changed_copy(self.bundle, target, everywhere, f"{stage}.mlpackage")
        try:
            return self.verify(copy, *(legs or PACKAGE_LEGS), precision=precision)
        finally:
            shutil.rmtree(copy)
