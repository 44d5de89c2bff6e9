"""`sizes` from request to report: with modules in place of packages, and (slow) for real."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import jsonschema
import numpy as np
import pytest

import kokoro_coreml.sizes.run as module
from kokoro_coreml.cli import main
from kokoro_coreml.errors import ConversionError
from kokoro_coreml.parity.flows import Around, EagerStages
from kokoro_coreml.parity.suite import SuiteError
from kokoro_coreml.recipe import PIPELINE
from kokoro_coreml.sizes import SizesRequest, failures, load_sizes, sizes, sizes_schema
from kokoro_coreml.sizes.errors import SizesError
from kokoro_coreml.sizes.results import RowSizes
from tests.sizes.conftest import FRAMES, TOKENS


@dataclass
class Quieter(Around):
    """Stages whose audio is a tenth of what it should be."""

    def call(self, name, size, backend, inputs):
        outputs = backend(inputs)
        if name == "Tail":
            outputs = outputs | {"audio": np.asarray(outputs["audio"] * 0.1)}
        return outputs


@pytest.fixture
def eager_rows(monkeypatch):
    """Every row is the network's own modules, but for some.

    `palette4` cannot be built, `palette6` has a defect, and `int8` is quieter.
    """
    built = {}

    def build(recipe, network, folder, _reporter):
        name = recipe.compression.default if recipe.compression else "none"
        if name == "palette4":
            raise ConversionError("no room for groups")
        if name == "palette6":
            raise ValueError("shapes differ")
        stages = EagerStages(network, recipe.tokens, recipe.frames)
        built[folder] = Quieter(stages) if name == "int8" else stages
        return (name,)

    sizes_of = {"none": 40, "palette8": 20, "int8": 10}
    monkeypatch.setattr(module, "build", build)
    monkeypatch.setattr(module, "weigh", lambda _, p: RowSizes(sizes_of[p[0]], sizes_of[p[0]], ()))
    monkeypatch.setattr(module, "_stages", lambda folder, _: built[folder])


def request(small, *names, **changes):
    return SizesRequest(
        small.recipe, names, suite=small.suite, checkpoint=small.weights, frames=FRAMES, **changes
    )


def test_a_row_that_fails_is_reported_and_the_others_are_measured(small, eager_rows, monkeypatch):
    monkeypatch.setattr("kokoro_coreml.sizes.run.Recogniser.available", lambda: False)
    monkeypatch.setattr("kokoro_coreml.sizes.measuring.Recogniser.available", lambda: False)
    seen = []
    asked = request(small, "palette4", "palette8", "palette6", "int8")
    report = sizes(asked, on_row=lambda one: seen.append([row.name for row in one.rows]))
    names = ["none", "palette4", "palette8", "palette6", "int8"]
    assert seen == [names[: i + 1] for i in range(len(names))]
    rows = {row.name: row for row in report.rows}
    assert failures(report) == [
        "palette4: no room for groups",
        "palette6: ValueError: shapes differ",
    ]
    assert rows["none"].against_uncompressed is None
    assert rows["palette8"].against_uncompressed.holds
    assert rows["palette8"].compression.default == "palette8"
    told = {one.metric for one in rows["int8"].against_uncompressed.worse}
    assert told >= {"audio_snr_db", "same_source_snr_db"}
    assert report.smallest == "palette8"
    assert (report.tokens, report.frames) == (TOKENS, FRAMES)
    assert [one.case for one in report.said] == ["hello", "quick"]
    assert report.recogniser is None
    assert "words" in {one.what for one in report.not_measured}
    assert not report.weights_from_8_bits
    assert report.to_json()


def test_cases_can_be_chosen_and_what_does_not_fit_is_named(small, eager_rows):
    report = sizes(request(small, "palette8", cases=("quick",), tokens=10))
    assert [one.case for one in report.said] == ["quick"]
    assert report.tokens == 10
    with pytest.raises(SuiteError, match="no case 'slow'"):
        sizes(request(small, "palette8", cases=("slow",)))
    both = sizes(request(small, "palette8", tokens=10))
    assert [one.case for one in both.said] == ["quick"]
    left = {one.what: one.reason for one in both.not_measured}
    assert left["case hello"] == "needs 24 tokens"


def test_without_the_uncompressed_row_nothing_is_compared(small, eager_rows, monkeypatch):
    whole = module.build

    def build(recipe, *others):
        if recipe.compression is None:
            raise ConversionError("no memory")
        return whole(recipe, *others)

    monkeypatch.setattr(module, "build", build)
    report = sizes(request(small, "palette8"))
    none, palette = report.rows
    assert (none.verdict, none.reason) == ("failed", "no memory")
    assert palette.verdict == "measured"
    assert palette.against_uncompressed is None
    assert report.smallest is None


def test_a_suite_of_which_nothing_fits_is_refused(small, tmp_path):
    suite = tmp_path / "long.toml"
    text = (small.folder / "suite.toml").read_text(encoding="utf-8")
    suite.write_text(text.replace("ɐ tˈɛst.", "ɐ" * 90).replace("hˈɛlO", "hˈɛlO" * 9))
    asked = SizesRequest(
        small.recipe, ("int8",), suite=str(suite), checkpoint=small.weights, frames=FRAMES
    )
    with pytest.raises(SizesError, match="no case of the suite tiny fits 32x128"):
        sizes(asked)


def test_a_misspelt_budget_is_found_before_anything_is_loaded(small):
    with pytest.raises(Exception, match="unknown size 'much'"):
        sizes(SizesRequest(small.recipe, budgets=("much",), checkpoint="/nowhere"))


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """The command on the tiny network: exit code, standard output, and the folder of its files."""
    folder = tmp_path_factory.mktemp("sizes_run")
    arguments = ["sizes", small.recipe, "--checkpoint", small.weights, "--suite", small.suite]
    arguments += ["--compression", "palette4/48", "--budget", "1kB", "--frames", str(FRAMES)]
    arguments += ["--out", str(folder / "s.json"), "--markdown", str(folder / "s.md")]
    with redirect_stdout(StringIO()) as output:
        code = main([*arguments, "--json", "-q"])
    return code, output.getvalue(), folder


@pytest.mark.slow
def test_the_command_converts_executes_and_weighs_every_row(run):
    code, output, folder = run
    assert code == SizesError.exit_code
    report = load_sizes(folder / "s.json")
    assert json.loads(output) == report.to_dict()
    jsonschema.validate(report.to_dict(), sizes_schema())
    none, palette, budget = report.rows
    assert [row.name for row in report.rows] == ["none", "palette4/48", "1kB"]
    assert [one.stage for one in none.sizes.stages] == list(PIPELINE)
    for row in (none, palette):
        assert all(0 < one.weight_bytes < one.package_bytes for one in row.sizes.stages)
        assert row.sizes.weight_bytes == sum(one.weight_bytes for one in row.sizes.stages)
        assert all(one.metrics["audio_snr_db"] is not None for one in row.cases)
    assert palette.sizes.weight_bytes < none.sizes.weight_bytes / 3
    assert all(one.metrics["same_source_snr_db"] > 45 for one in none.cases)
    assert not palette.against_uncompressed.holds
    assert (budget.verdict, budget.sizes) == ("failed", None)
    assert "the budget is 1000" in budget.reason
    assert report.smallest == "none"
    assert "| palette4/48 |" in (folder / "s.md").read_text(encoding="utf-8")
