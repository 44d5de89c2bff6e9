"""Bits per weight within a budget: what is measured, what is chosen, and what users can ask for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kokoro_coreml import conversion
from kokoro_coreml.cli import main
from kokoro_coreml.compression import Scheme
from kokoro_coreml.compression.asked import parse_size, save, to_toml, uniform
from kokoro_coreml.compression.budget import within_budget
from kokoro_coreml.compression.measured import SCHEMES, Errors, noise
from kokoro_coreml.compression.probe import HOPELESS, Departure, Probe
from kokoro_coreml.compression.quantise import dequantise, quantise
from kokoro_coreml.compression.survey import Stored
from kokoro_coreml.conversion.building import Builder
from kokoro_coreml.conversion.compressing import Budget, require_fit
from kokoro_coreml.conversion.job import Job
from kokoro_coreml.errors import ConversionError, RecipeError
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.progress import SILENT
from kokoro_coreml.recipe import PIPELINE, Compression, load_recipe, parse_recipe
from kokoro_coreml.synthesis import Utterance
from kokoro_coreml.vocabulary import Vocabulary
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_bundle import PHONEMES, write_checkpoint
from tests.support.tiny_pipeline import pipeline_recipe

# sizes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("45MB", 45_000_000),
        ("45 MB", 45_000_000),
        ("45mb", 45_000_000),
        ("45MiB", 45 * 2**20),
        ("1.2GB", 1_200_000_000),
        ("45.1MB", 45_100_000),
        ("0.5 GiB", 2**29),
        (" 800kb ", 800_000),
        ("12345B", 12_345),
    ],
)
def test_sizes_are_understood(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text", ["", "45", "MB", "-45MB", "45 M B", "4,5MB", "1e3MB", "5iB", "0MB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="45MB"):
        parse_size(text)


# the choice, by a network whose error is known


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(96, 64)
        self.second = nn.Linear(64, 96)
        self.third = nn.Linear(96, 50)
        self.coarse = nn.Linear(64, 64)
        self.coarse.weight.data = self.coarse.weight.data.sign() / 8


GAINS = {"first.weight": 1.0, "second.weight": 1e4, "third.weight": 1e-3, "coarse.weight": 50.0}
"""Energy of the output's error per energy of the weight's."""


@dataclass
class Quadratic:
    """Stands in for `Probe`: every error is in proportion to the weight's own."""

    network: nn.Module
    asked: list[Mapping[str, torch.Tensor]] = field(default_factory=list)

    def departure(self, _stage: str, weights: Mapping[str, torch.Tensor]) -> Departure:
        self.asked.append(weights)
        own = dict(self.network.named_parameters())
        energy = sum(GAINS[k] * float((w - own[k]).square().sum()) for k, w in weights.items())
        return Departure(energy**0.5, 0.0, 0.0)


@pytest.fixture
def probe() -> Quadratic:
    torch.manual_seed(0)
    return Quadratic(Net().requires_grad_(False))


def errors_of(probe: Quadratic, *, copies: int = 1, dtype: str = "float32") -> Errors:
    weights = [
        Stored("Decoder", path, p.numpy().astype(dtype), 0)
        for path, p in probe.network.named_parameters()
        if p.ndim == 2
    ]
    return Errors(weights, probe, {"Decoder": copies}, "iOS18")


OTHER = 1_000
WHOLE = OTHER + sum(4 * n + 64 for n in (96 * 64, 64 * 96, 96 * 50, 64 * 64))


def test_more_bytes_never_mean_more_error_and_are_never_exceeded(probe: Quadratic) -> None:
    errors = errors_of(probe)
    budgets = np.linspace(0.13 * WHOLE, 1.05 * WHOLE, 12).astype(int)
    plans = [within_budget(errors, int(budget), OTHER) for budget in budgets]
    for plan, budget in zip(plans, budgets, strict=True):
        assert plan.bytes <= budget
        size = OTHER + sum(errors.size(path, scheme) for path, scheme in plan.schemes.items())
        assert plan.bytes == size
    energies = [plan.energy for plan in plans]
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] == 0.0
    assert energies[0] > 0.0


def test_bits_go_where_they_are_heard(probe: Quadratic) -> None:
    for share in (0.15, 0.18, 0.2):
        plan = within_budget(errors_of(probe), int(share * WHOLE), OTHER)
        bits = {path: 32 if s is None else s.bits for path, s in plan.schemes.items()}
        assert bits["second.weight"] >= bits["first.weight"] >= bits["third.weight"]
        assert bits["second.weight"] > bits["third.weight"]


def test_everything_chosen_was_measured_alone_and_together(probe: Quadratic) -> None:
    errors = errors_of(probe)
    plan = within_budget(errors, int(0.2 * WHOLE), OTHER)
    lossy = {p: s for p, s in plan.schemes.items() if s is not None and p != "coarse.weight"}
    own = dict(probe.network.named_parameters())
    true = sum(
        GAINS[p] * float((errors.compressed(p, s) - own[p]).square().sum())
        for p, s in lossy.items()
    )
    assert plan.energy == pytest.approx(true, rel=1e-5)
    assert plan.departure.energy == pytest.approx(true, rel=1e-5)
    for path, scheme in lossy.items():
        tensor = errors.compressed(path, scheme)
        assert any(
            asked.keys() == {path} and torch.equal(asked[path], tensor) for asked in probe.asked
        )
    assert probe.asked[-1].keys() == lossy.keys()


def test_a_weight_of_few_values_gets_a_palette_without_loss(probe: Quadratic) -> None:
    errors = errors_of(probe)
    plan = within_budget(errors, int(0.25 * WHOLE), OTHER)
    scheme = plan.schemes["coarse.weight"]
    assert scheme == Scheme("palette", 1)
    weight = probe.network.coarse.weight
    assert torch.equal(errors.compressed("coarse.weight", scheme), weight)
    assert not any("coarse.weight" in asked for asked in probe.asked)


def test_equal_input_gives_an_equal_choice(probe: Quadratic) -> None:
    first, second = (within_budget(errors_of(probe), int(0.2 * WHOLE), OTHER) for _ in range(2))
    assert first == second


def test_what_was_measured_serves_the_next_budget(probe: Quadratic) -> None:
    errors = errors_of(probe)
    plan = within_budget(errors, int(0.2 * WHOLE), OTHER)
    probe.asked.clear()
    assert within_budget(errors, int(0.2 * WHOLE), OTHER) == plan
    assert len(probe.asked) == 1  # all weights at once


def test_packages_that_hold_a_weight_each_take_its_bytes(probe: Quadratic) -> None:
    one, three = errors_of(probe), errors_of(probe, copies=3)
    for scheme in (None, *SCHEMES):
        if scheme in three.options("first.weight"):
            assert three.size("first.weight", scheme) == 3 * one.size("first.weight", scheme)


def test_schemes_that_do_not_fit_a_shape_are_not_tried(probe: Quadratic) -> None:
    options = errors_of(probe).options("third.weight")  # 50 output channels
    assert Scheme("palette", 4) in options
    assert not [s for s in options if s is not None and s.group]


def test_a_constant_that_is_no_parameter_is_stored_without_loss(probe: Quadratic) -> None:
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float16)
    coarse = np.sign(values)
    weights = [Stored("Decoder", "folded", values, 0), Stored("Decoder", "signs", coarse, 0)]
    errors = Errors(weights, probe, {"Decoder": 1}, "iOS18")
    assert errors.options("folded") == [None]
    assert errors.options("signs") == [Scheme("palette", 1)]
    plan = within_budget(errors, 100_000, OTHER)
    assert plan.schemes == {}
    assert plan.bytes == OTHER + 2 * 64 * 64 + 64 + 64 * 64 // 8 + 64
    assert plan.compression(1).default == "exact"


@pytest.mark.parametrize("budget", [0, 999, 5_000])
def test_too_small_a_budget_names_the_least_possible(probe: Quadratic, budget: int) -> None:
    errors = errors_of(probe)
    with pytest.raises(RecipeError, match=r"at least (\d+) bytes") as caught:
        within_budget(errors, budget, OTHER)
    least = int(str(caught.value).split("at least ")[1].split()[0])
    assert within_budget(errors, least, OTHER).bytes == least
    with pytest.raises(RecipeError):
        within_budget(errors, least - 1, OTHER)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_noise_of_a_part_is_that_of_the_whole(scheme: Scheme, axis: int) -> None:
    rng = np.random.default_rng(1)
    values = (rng.laplace(size=(512, 512)) * rng.lognormal(size=(512, 1))).astype(np.float16)
    values = np.ascontiguousarray(np.moveaxis(values, 0, axis))
    back = dequantise(quantise(values, scheme, axis=axis)).astype(np.float64)
    whole = float(np.mean((back - values.astype(np.float64)) ** 2))
    assert noise(values, scheme, axis) == pytest.approx(whole, rel=0.4)


# what a user can read and write


def test_the_table_of_a_recipe_holds_the_choice(probe: Quadratic) -> None:
    compression = within_budget(errors_of(probe), int(0.2 * WHOLE), OTHER).compression(12_345)
    assert "12345 bytes" in compression.reason
    assert set(compression.weights) == set(GAINS) - {"coarse.weight"}  # few values: exact
    table = tomllib.loads(to_toml(compression))
    raw = load_recipe("kokoro-82m").to_dict() | table
    raw = {key: value for key, value in raw.items() if value not in (None, [], ())}
    raw["target"] = {k: v for k, v in raw["target"].items() if v is not None}
    assert parse_recipe(raw, document="mine.toml").compression == compression


def test_a_budget_that_holds_all_loses_nothing(probe: Quadratic) -> None:
    compression = within_budget(errors_of(probe), int(1.05 * WHOLE), OTHER).compression(12_345)
    assert compression.weights == {}
    assert not compression.lossy
    tight = within_budget(errors_of(probe), int(0.2 * WHOLE), OTHER).compression(12_345)
    assert tight.lossy


def test_the_table_of_a_recipe_is_saved(tmp_path: Path) -> None:
    recipe = uniform(load_recipe("kokoro-82m"), "palette6/16")
    save(recipe.to_dict(), tmp_path / "table.toml")
    table = tomllib.loads((tmp_path / "table.toml").read_text(encoding="utf-8"))
    assert table == {
        "compression": {"default": "palette6/16", "reason": "--compression palette6/16"}
    }
    with pytest.raises(RecipeError, match="has no"):
        save(load_recipe("complete").to_dict(), tmp_path / "none.toml")


def test_text_in_a_table_is_quoted() -> None:
    compression = Compression(
        "none", 'a "reason" ə', stages={"Tail": "exact"}, weights={"a.b": "int8"}
    )
    assert tomllib.loads(to_toml(compression))["compression"] == compression.to_dict()


def test_one_way_for_all_weights_replaces_the_recipes() -> None:
    recipe = uniform(load_recipe("kokoro-82m"), "palette6")
    assert recipe.compression == Compression("palette6", "--compression palette6")
    assert uniform(recipe, "none").compression == Compression("none", "--compression none")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["kokoro-82m", "--budget", "45MB", "--compression", "int8"], 2, "exclude each other"),
        (["kokoro-82m", "--budget", "much"], RecipeError.exit_code, "unknown size 'much'"),
        (["kokoro-82m", "--compression", "zip"], RecipeError.exit_code, "none and exact"),
        (
            ["kokoro-82m-ios17", "--compression", "palette4/16"],
            RecipeError.exit_code,
            "need iOS 18",
        ),
        (["complete", "--budget", "45MB"], RecipeError.exit_code, "cut 'complete'"),
        (["complete", "--compression", "int8"], RecipeError.exit_code, "cut 'complete'"),
    ],
)
def test_the_command_refuses(
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(conversion, "convert", lambda *_, **__: pytest.fail("converted"))
    assert main(["convert", *arguments]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "budget", "compression"),
    [(["--budget", "45 MiB"], 45 * 2**20, None), (["--compression", "exact"], None, "exact")],
)
def test_the_command_hands_on(
    option: list[str], budget: int | None, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}

    def convert(recipe: object, **options: object) -> None:
        given.update(options, recipe=recipe)
        raise RecipeError("enough")

    monkeypatch.setattr(conversion, "convert", convert)
    main(["convert", "kokoro-82m", *option])
    assert given["budget"] == budget
    if compression:
        assert given["recipe"].compression.default == compression


# the probe, on the tiny network


@pytest.fixture(scope="module")
def tiny_probe() -> Probe:
    weights = tiny_checkpoint()
    ids = Vocabulary.from_config(weights.config).encode(PHONEMES)
    style = np.random.default_rng(0).normal(size=(1, 256)).astype(np.float32) * 0.2
    return Probe(PipelineNetwork(weights), Utterance(tuple(ids), style), noise_seed=0)


PATHS = {
    "Encoder": "bert_encoder.weight",
    "Duration": "predictor.lstm.weight_hh_l0",
    "Prosody": "predictor.F0.0.conv1.weight",
    "Decoder": "decoder.encode.conv1.weight",
    "Generator": "generator.resblocks.0.convs1.0.weight",
    "Tail": "conv_post.weight",
}


def moved(probe: Probe, stage: str, scale: float) -> Departure:
    weight = dict(probe.network.named_parameters())[PATHS[stage]]
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(weight.shape, generator=generator) * scale * weight.std()
    return probe.departure(stage, {PATHS[stage]: weight + change})


@pytest.mark.parametrize("stage", PATHS)
def test_no_change_is_no_departure_and_a_larger_change_is_a_larger_one(
    tiny_probe: Probe, stage: str
) -> None:
    weight = dict(tiny_probe.network.named_parameters())[PATHS[stage]]
    assert tiny_probe.departure(stage, {PATHS[stage]: weight.clone()}).energy == 0.0
    small, large = (moved(tiny_probe, stage, scale).energy for scale in (0.01, 0.04))
    assert 0.0 < small < large
    # quadratic: 16 times the energy for 4 times the change, though the network is not linear
    assert 4.0 < large / small < 64.0


def test_a_departure_is_seen_where_it_belongs(tiny_probe: Probe) -> None:
    assert moved(tiny_probe, "Duration", 0.05).frames > 0.0
    assert moved(tiny_probe, "Duration", 0.05).spectrum_db == 0.0
    assert moved(tiny_probe, "Prosody", 0.05).pitch > 0.0
    assert moved(tiny_probe, "Prosody", 0.05).frames == 0.0
    assert moved(tiny_probe, "Decoder", 0.05).pitch == 0.0


def test_energies_of_independent_changes_add_up(tiny_probe: Probe) -> None:
    own = dict(tiny_probe.network.named_parameters())
    scheme = Scheme("palette", 6)
    weights = {
        path: torch.from_numpy(dequantise(quantise(own[path].numpy(), scheme)))
        for stage, path in PATHS.items()
        if stage in ("Decoder", "Generator", "Tail")
    }
    alone = sum(tiny_probe.departure("Decoder", {k: w}).energy for k, w in weights.items())
    assert tiny_probe.departure("Decoder", weights).energy == pytest.approx(alone, rel=0.5)


def test_a_ruined_weight_is_hopeless_and_returns(tiny_probe: Probe) -> None:
    weight = dict(tiny_probe.network.named_parameters())["conv_post.weight"]
    ruined = {"conv_post.weight": torch.full_like(weight, torch.nan)}
    assert tiny_probe.departure("Tail", ruined).energy == HOPELESS
    assert tiny_probe.departure("Tail", {}).energy == 0.0


# the whole, on the tiny network


@pytest.mark.slow
def test_packages_fit_their_budget(tmp_path: Path) -> None:
    recipe = pipeline_recipe(tmp_path / "tiny.toml", tokens="[32]", frames="[128]")
    job = Job(recipe, tmp_path / "work" / "new", SILENT)
    job.folder.mkdir(parents=True)
    weights = job.load(str(write_checkpoint(tmp_path / "weights")))
    limit = 30_000_000
    budget = Budget(job, weights, job.voices(weights, [])[0])
    plan = budget.plan(limit)
    assert 0.98 * limit < plan.bytes <= limit
    job = replace(job, recipe=budget.recipe(limit))
    assert job.recipe.compression == plan.compression(limit)
    builder = Builder(job, PipelineNetwork(weights), None)
    files = [record.file for name in PIPELINE for record in builder.build(name)]
    require_fit(job.folder, files, plan.bytes)
    with pytest.raises(ConversionError):
        require_fit(job.folder, files, int(0.99 * plan.bytes))


def test_packages_over_their_budget_are_refused(tmp_path: Path) -> None:
    (tmp_path / "A.mlpackage/Data").mkdir(parents=True)
    (tmp_path / "A.mlpackage/Data/x").write_bytes(bytes(100))
    require_fit(tmp_path, ["A.mlpackage"], 100)
    with pytest.raises(ConversionError, match=r"100 bytes.*budget of 99.*98 bytes"):
        require_fit(tmp_path, ["A.mlpackage"], 99)
