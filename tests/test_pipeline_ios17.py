"""The pipeline for iOS 17: a package for every stage and bucket, in the older forms."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from kokoro_coreml.bundle import verify_files
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.recipe import FRAME_STAGES, TOKEN_STAGES, Compression, load_recipe
from kokoro_coreml.synthesis import Synthesizer
from tests.support.tiny_bundle import PHONEMES
from tests.support.tiny_pipeline import convert_pipeline, pipeline_recipe

STORED = Compression("exact", "a test", stages={"Decoder": "palette8", "Tail": "int8"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ios17")
    recipe = dataclasses.replace(
        pipeline_recipe(folder / "tiny.toml", frames="[128]"),
        target=load_recipe("kokoro-82m-ios17").target,
        compression=STORED,
    )
    return convert_pipeline(folder, recipe)


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return verify_files(bundle)


def test_a_package_per_stage_and_bucket_with_one_function(manifest: Manifest) -> None:
    expected = [f"{name}_32.mlpackage" for name in TOKEN_STAGES]
    expected += [f"{name}_128.mlpackage" for name in FRAME_STAGES]
    assert [package.file for package in manifest.packages] == expected
    for package in manifest.packages:
        assert [function.name for function in package.functions] == ["main"]
        assert package.minimum_deployment_target == "iOS17"


def test_packages_are_of_ios_17_and_hold_compressed_weights(
    bundle: Path, manifest: Manifest
) -> None:
    for package in manifest.packages:
        program = Program.load(bundle / package.file)
        assert program.opset == 17
        kinds = {o.type for o in program.operations if o.type.startswith("constexpr_")}
        if package.stage == "Decoder":
            assert kinds == {"constexpr_lut_to_dense"}
        assert bool(program.expanded_weights()) == bool(kinds)


def test_it_speaks(bundle: Path) -> None:
    with Synthesizer(bundle) as synthesizer:
        speech = synthesizer.say(PHONEMES)
    assert speech.audio.size > 1_000
    assert np.all(np.isfinite(speech.audio))
    assert np.abs(speech.audio).max() > 1e-4
