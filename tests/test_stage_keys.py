"""The key of a cached stage covers all that its package depends on."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kokoro_coreml import fingerprint
from kokoro_coreml.cache import StageCache
from kokoro_coreml.conversion import building
from kokoro_coreml.conversion.building import Builder
from kokoro_coreml.conversion.job import Job
from kokoro_coreml.fingerprint import Key
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.progress import SILENT
from kokoro_coreml.recipe import PIPELINE, TOKEN_STAGES, Compression, Recipe, load_recipe
from kokoro_coreml.stages import pipeline_stage
from tests.support.tiny import tiny_checkpoint


@pytest.fixture
def network() -> PipelineNetwork:
    return PipelineNetwork(tiny_checkpoint())


def keys(network: PipelineNetwork, recipe: Recipe, folder: Path) -> dict[str, Key]:
    builder = Builder(Job(recipe, folder, SILENT), network, StageCache(folder))
    sizes = {name: 32 if name in TOKEN_STAGES else 128 for name in PIPELINE}
    return {name: builder.key(pipeline_stage(network, name, sizes[name])) for name in PIPELINE}


def changed(network: PipelineNetwork) -> Iterator[tuple[str, object]]:
    """Every field of the configuration that is no tensor's shape alone, with another value."""
    config = network.config
    for section in ("plbert", "istftnet"):
        record = getattr(config, section)
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                other = dataclasses.replace(record, **{field.name: value * 2})
                yield f"{section}.{field.name}", dataclasses.replace(config, **{section: other})


def test_the_same_network_and_recipe_have_the_same_keys(
    network: PipelineNetwork, tmp_path: Path
) -> None:
    recipe = load_recipe("kokoro-82m")
    found = keys(network, recipe, tmp_path)
    assert found == keys(PipelineNetwork(tiny_checkpoint()), recipe, tmp_path)
    assert len(set(found.values())) == len(PIPELINE)


def test_the_configuration_is_part_of_the_key(network: PipelineNetwork, tmp_path: Path) -> None:
    recipe, seen = load_recipe("kokoro-82m"), 0
    before, kept = keys(network, recipe, tmp_path), network.config
    for name, config in changed(network):
        network.config = config  # the tensors stay
        try:
            after = {stage: _key(network, recipe, tmp_path, stage) for stage in ("Encoder", "Tail")}
        finally:
            network.config = kept
        assert all(after[stage] != before[stage] for stage in after), name
        seen += 1
    assert seen >= 8


def _key(network: PipelineNetwork, recipe: Recipe, folder: Path, name: str) -> Key:
    config, network.config = network.config, PipelineNetwork(tiny_checkpoint()).config
    stage = pipeline_stage(network, name, 32 if name in TOKEN_STAGES else 128)
    network.config = config
    return Builder(Job(recipe, folder, SILENT), network, StageCache(folder)).key(stage)


def test_compression_and_precision_are_part_of_the_key(
    network: PipelineNetwork, tmp_path: Path
) -> None:
    recipe = load_recipe("kokoro-82m")
    before = keys(network, recipe, tmp_path)
    other = dataclasses.replace(recipe, compression=Compression("palette6", "a test"))
    assert not set(before.values()) & set(keys(network, other, tmp_path).values())
    stage = dataclasses.replace(recipe.stages["Tail"], precision="float16")
    half = dataclasses.replace(recipe, stages={**recipe.stages, "Tail": stage})
    after = keys(network, half, tmp_path)
    assert [name for name in PIPELINE if after[name] != before[name]] == ["Tail"]


def test_one_weight_changes_the_stages_that_hold_it(
    network: PipelineNetwork, tmp_path: Path
) -> None:
    recipe = load_recipe("kokoro-82m")
    before = keys(network, recipe, tmp_path)
    network.conv_post.weight.data[0, 0, 0] += 1.0
    after = keys(network, recipe, tmp_path)
    assert [name for name in PIPELINE if after[name] != before[name]] == ["Tail"]


def test_what_names_the_weights_of_a_table_is_part_of_the_key(
    network: PipelineNetwork, tmp_path: Path
) -> None:
    recipe = load_recipe("kokoro-82m")
    table = Compression("exact", "a test", weights={"conv_post.weight": "palette6"})
    named = dataclasses.replace(recipe, compression=table)
    before = keys(network, named, tmp_path)
    network.conv_post.weight.data[0, 0, 0] += 1.0
    after = keys(network, named, tmp_path)
    assert all(after[name] != before[name] for name in PIPELINE)


def test_the_instruction_set_is_part_of_the_key(
    network: PipelineNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("kokoro-82m")
    before = keys(network, recipe, tmp_path)
    monkeypatch.setattr(fingerprint.torch.backends.cpu, "get_cpu_capability", lambda: "NONE")
    assert not set(before.values()) & set(keys(network, recipe, tmp_path).values())


def test_code_that_was_changed_while_it_runs_neither_takes_nor_leaves_stages(
    network: PipelineNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, source = load_recipe("kokoro-82m"), tmp_path / "source.py"
    source.write_text("POST_SLOPE = 0.01\n", encoding="utf-8")
    cache = StageCache(tmp_path / "cache")
    monkeypatch.setattr(building, "lower", lambda *_, **__: (tmp_path / "tail").mkdir())
    monkeypatch.setattr(building, "normalise_package", lambda _: None)

    def lowered(written: float) -> bool:
        """Whether the stage was made anew, with a source file of that age."""
        os.utime(source, (written, written))
        builder = Builder(Job(recipe, tmp_path, SILENT), network, cache)
        builder._sources.append(source)
        builder.lower(pipeline_stage(network, "Tail", 128), tmp_path / "tail")
        made = not any((tmp_path / "tail").glob("*"))
        (tmp_path / "tail").rmdir()
        return made

    assert lowered(time.time() + 60)
    assert not list((tmp_path / "cache").glob("?" * 64))
    assert lowered(0.0)
    assert len(list((tmp_path / "cache").glob("?" * 64))) == 1
