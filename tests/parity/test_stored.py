"""A package with compressed weights equals the network with those weights, and no other."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from kokoro_coreml.bundle import verify_files
from kokoro_coreml.errors import ParityError
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.parity import gate
from kokoro_coreml.parity.gate import Case, compressed_against_upstream
from kokoro_coreml.parity.reference import ReferenceSpeech
from kokoro_coreml.parity.request import EVERY_LEG, Request
from kokoro_coreml.parity.stored import stored_network
from kokoro_coreml.parity.thresholds import (
    COREML_UPSTREAM,
    PACKAGE_UPSTREAM,
    of_leg,
    thresholds_for,
)
from kokoro_coreml.parity.verification import verify
from kokoro_coreml.recipe import Compression, load_recipe
from kokoro_coreml.synthesis import Spoken, Utterance
from kokoro_coreml.synthesis.stages import PackagedStages
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_bundle import write_suite
from tests.support.tiny_pipeline import convert_pipeline, pipeline_recipe

LOSSY = Compression(
    default="palette6",
    reason="a test",
    stages={"Generator": "int8"},
    weights={"predictor.shared.weight_hh_l0": "palette4/16"},
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lossy")
    # a random network amplifies flips at the branch cut, and keeps no distance to itself
    recipe = pipeline_recipe(folder / "tiny.toml", frames="[128]", audio_snr_db="12.0")
    far = tuple((metric, 100.0, *rest) for metric, _, *rest in gate.COMPRESSED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "COMPRESSED", far)
        return convert_pipeline(folder, dataclasses.replace(recipe, compression=LOSSY))


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return verify_files(bundle)


def packaged(bundle: Path, manifest: Manifest) -> PackagedStages:
    return PackagedStages(
        bundle, manifest.packages, lambda path, function, _: Program.load(path, function)
    )


def test_what_was_saved_is_held_to_the_weights_it_holds(manifest: Manifest) -> None:
    legs = {leg.name: leg for leg in manifest.parity.legs}
    stages = [leg for name, leg in legs.items() if name.startswith("package = rewrite")]
    assert len(stages) == 7
    for leg in stages:
        (value,), (bound,) = leg.metrics.values(), leg.thresholds.values()
        assert value >= bound >= 50.0, leg.name
    upstream = [leg for name, leg in legs.items() if name.startswith("package = upstream")]
    own = [leg for name, leg in legs.items() if name.startswith("package = network of its weights")]
    assert len(upstream) == len(own) > 0
    for leg in upstream:
        assert "audio_snr_db" not in leg.thresholds
        assert set(leg.thresholds) == set(leg.metrics)
    for leg in own:
        assert leg.metrics["duration_errors"] == 0
        assert leg.metrics["audio_snr_db"] >= leg.thresholds["audio_snr_db"] >= 12.0


def test_verify_holds_the_whole_to_the_network_of_its_weights(bundle: Path) -> None:
    folder = bundle.parent
    named = thresholds_for("float16", None, "pipeline", lossy=True)
    stored = [t for t in named if t.metric.startswith("stored_")]
    assert {t.leg for t in stored} == {PACKAGE_UPSTREAM, COREML_UPSTREAM}
    report = verify(
        Request(
            bundle,
            suite=str(write_suite(folder / "suite.toml")),
            checkpoint=str(folder / "weights"),
            thresholds=tuple(named),
            waive=tuple(leg for leg in EVERY_LEG if leg != PACKAGE_UPSTREAM),
        )
    ).report
    (leg,) = [leg for leg in report.legs if leg.name == PACKAGE_UPSTREAM]
    values = {(check.metric, check.where): check.value for check in leg.checks}
    own = {key: value for key, value in values.items() if key[0].startswith("stored_")}
    assert len(own) == 6
    for (metric, where), value in own.items():
        if metric == "stored_duration_errors":
            assert value == 0, where
        elif metric == "stored_snr_db":
            assert value > 12.0, where
    assert not any(metric == "audio_snr_db" for metric, _ in values)


def test_the_stored_network_is_another_one(bundle: Path, manifest: Manifest) -> None:
    network = PipelineNetwork(tiny_checkpoint())
    stored = stored_network(network, LOSSY, packaged(bundle, manifest))
    before, after = dict(network.named_parameters()), dict(stored.named_parameters())
    path = "predictor.shared.weight_hh_l0"
    assert len(np.unique(after[path].detach().numpy())) <= after[path].shape[0]
    assert not np.array_equal(before[path].detach().numpy(), after[path].detach().numpy())
    biases = [name for name in before if name.endswith("bias")]
    assert biases
    for name in biases:
        assert np.array_equal(before[name].detach().numpy(), after[name].detach().numpy()), name


def test_other_weights_in_a_package_are_found_out(
    bundle: Path, manifest: Manifest, tmp_path: Path
) -> None:
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    path = changed / "Prosody.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 512] = bytes(512)
    path.write_bytes(content)
    with pytest.raises(ParityError, match=r"Prosody\.mlpackage holds compressed weights that no"):
        stored_network(PipelineNetwork(tiny_checkpoint()), LOSSY, packaged(changed, manifest))


@pytest.mark.parametrize("default", ["none", "exact"])
def test_where_nothing_is_lost_the_network_is_itself(default: str) -> None:
    network = PipelineNetwork(tiny_checkpoint())
    nothing = Compression(default=default, reason="a test")
    for compression in (None, nothing):
        assert stored_network(network, compression, None) is network  # type: ignore[arg-type]


def test_bounds_of_a_recipe_are_not_for_changed_weights() -> None:
    recipe = load_recipe("kokoro-82m").parity
    lossy = of_leg(thresholds_for("float16", recipe, "pipeline", lossy=True), PACKAGE_UPSTREAM)
    assert "audio_snr_db" not in lossy
    assert lossy["log_spectral_distance_db"].bound > recipe.log_spectral_distance_db


def _case(seconds: float = 1.0) -> tuple[Case, Spoken]:
    random = np.random.default_rng(0)
    durations = np.full(10, 4)
    audio = random.standard_normal(24_000).astype(np.float32) * 0.1
    reference = ReferenceSpeech(audio=audio, durations=durations)
    utterance = Utterance(tuple(range(10)), np.zeros((1, 256), dtype=np.float32), 1.0)
    spoken = Spoken(audio.copy(), durations.copy(), np.zeros(600, dtype=np.float32))
    return Case("case", utterance, reference), spoken


def test_the_gate_of_changed_weights_can_fail() -> None:
    case, spoken = _case()
    assert compressed_against_upstream("leg", spoken, spoken, case).verdict == "passed"
    wrong = {
        "louder": (spoken, dataclasses.replace(spoken, audio=spoken.audio * 1.3)),
        "other": (spoken, dataclasses.replace(spoken, audio=spoken.audio[::-1] ** 2)),
        "short": (spoken, dataclasses.replace(spoken, audio=spoken.audio[:-600])),
        "padding": (dataclasses.replace(spoken, padding=spoken.audio), spoken),
        "durations": (dataclasses.replace(spoken, durations=spoken.durations + 1), spoken),
    }
    for name, (natural, forced) in wrong.items():
        leg = compressed_against_upstream("leg", natural, forced, case)
        assert leg.verdict == "failed", name
