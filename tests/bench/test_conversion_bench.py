"""The conversion of a recipe: cold, warm, step by step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kokoro_coreml import conversion
from kokoro_coreml.bench.conversion import Converted, Converter, measure_conversion
from kokoro_coreml.bench.steps import StepMemory, forget_peak
from kokoro_coreml.checkpoint.cache import CACHE_VARIABLE
from kokoro_coreml.errors import ConversionError, RecipeError
from kokoro_coreml.memory import peak_memory
from kokoro_coreml.progress import SILENT
from tests.bench.conftest import Clock

COLD = Converted(10.0, {"trace": 2.0, "convert": 5.0}, {"trace": 100, "convert": 300}, 400, 77)
WARM = Converted(4.0, {"merge": 1.0}, {}, 200, 77)


class Child:
    """Answers one conversion."""

    def __init__(self, factory, arguments, answer):
        self.factory, self.arguments, self.answer, self.closed = factory, arguments, answer, False

    def call(self, method, out, *, doing):
        assert method == "convert"
        self.cache = sorted(Path(self.arguments["cache"]).glob("*"))
        Path(self.arguments["cache"]).mkdir(exist_ok=True)
        (Path(self.arguments["cache"]) / "stage").touch()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self):
        self.closed = True


def measure(*answers, checkpoint="packaged"):
    made, left = [], list(answers)

    def start(factory, arguments):
        made.append(Child(factory, arguments, left.pop(0)))
        return made[-1]

    found = measure_conversion("complete", checkpoint, reporter=SILENT, start=start)
    return found, made


def test_the_second_conversion_has_what_the_first_left_in_the_cache():
    found, (first, second) = measure(COLD, WARM)
    assert first.cache == []
    assert [path.name for path in second.cache] == ["stage"]
    assert first.arguments == second.arguments
    assert not Path(first.arguments["cache"]).parent.exists(), "something is left behind"
    assert first.closed
    assert second.closed
    assert (found.recipe, found.checkpoint) == ("complete", "packaged")
    assert found.times_as_fast == 2.5
    cold, warm = found.runs
    assert [(s.name, s.seconds, s.peak_bytes) for s in cold.steps] == [
        ("trace", 2.0, 100),
        ("convert", 5.0, 300),
    ]
    assert (cold.seconds, cold.other_seconds, cold.peak_bytes) == (10.0, 3.0, 400)
    assert cold.bundle_bytes == 77
    assert [(s.name, s.peak_bytes) for s in warm.steps] == [("merge", None)]


def test_a_folder_of_weights_is_named_without_its_path(tmp_path):
    (tmp_path / "weights").mkdir()
    found, (first, _) = measure(COLD, WARM, checkpoint=str(tmp_path / "weights"))
    assert found.checkpoint == "weights"
    assert first.arguments["checkpoint"] == str(tmp_path / "weights")


def test_a_conversion_that_fails_is_reported_with_its_message():
    found, made = measure(ConversionError("cannot trace"))
    cold, warm = found.runs
    assert (cold.verdict, cold.reason, cold.seconds) == ("failed", "cannot trace", None)
    assert (warm.verdict, warm.reason) == ("skipped", "the cold conversion failed")
    assert found.times_as_fast is None
    assert len(made) == 1
    found, _ = measure(COLD, ConversionError("no room"))
    assert [run.verdict for run in found.runs] == ["measured", "failed"]


def test_an_unknown_recipe_starts_nothing():
    with pytest.raises(RecipeError, match="unknown recipe"):
        measure_conversion("nothing", None, reporter=SILENT, start=None)


def test_the_converter_uses_the_cache_it_is_given_and_counts_the_bundle(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, "elsewhere")
    seen = {}

    def convert(recipe, *, checkpoint, out, reporter):
        seen.update(recipe=recipe.name, checkpoint=checkpoint, cache=os.environ[CACHE_VARIABLE])
        with reporter.step("trace Encoder"):
            pass
        (out / "sub").mkdir(parents=True)
        (out / "sub" / "file").write_bytes(b"12345")
        return SimpleNamespace(bundle=out, seconds={"trace": 1.5})

    monkeypatch.setattr(conversion, "convert", convert)
    converter = Converter("complete", "packaged", str(tmp_path / "cache"))
    found = converter.convert(str(tmp_path / "out"), clock=Clock(1.0, 4.0))
    assert seen == {
        "recipe": "complete",
        "checkpoint": "packaged",
        "cache": str(tmp_path / "cache"),
    }
    assert (found.seconds, found.steps, found.bundle_bytes) == (3.0, {"trace": 1.5}, 5)
    assert found.peak_bytes > 10_000_000


class Process:
    """Memory that a test sets; its peak is since the last `forget`."""

    def __init__(self, *, forgets=True):
        self.now = self.peak = 0
        self.forgets = forgets

    def use(self, size):
        self.now = size
        self.peak = max(self.peak, size)

    def forget(self):
        if self.forgets:
            self.peak = self.now
        return self.forgets

    def watched(self):
        return StepMemory(peak=lambda: self.peak, forget=self.forget)


def test_each_kind_of_step_has_its_own_peak():
    process = Process()
    memory = process.watched()
    process.use(50)
    with memory.step("trace Encoder"):
        process.use(300)
        process.use(100)
    process.use(400)
    process.use(100)
    with memory.step("check: the sample"):
        process.use(150)
        with memory.step("Rebuild the weights"):
            process.use(500)
            process.use(90)
        process.use(120)
    with memory.step("trace Decoder"):
        process.use(200)
    assert memory.peaks == {"trace": 300, "check": 500, "rebuild": 500}
    assert memory.total() == 500


def test_a_step_that_raises_is_counted_and_closed():
    process = Process()
    memory = process.watched()

    def fail():
        with memory.step("trace Encoder"):
            process.use(300)
            raise ConversionError("no")

    with pytest.raises(ConversionError):
        fail()
    process.use(10)
    with memory.step("convert Encoder"):
        process.use(20)
    assert memory.peaks == {"trace": 300, "convert": 20}


def test_where_the_system_cannot_count_anew_steps_have_no_peak():
    process = Process(forgets=False)
    memory = process.watched()
    with memory.step("trace Encoder"):
        process.use(300)
    assert memory.peaks == {}
    assert memory.total() == 300


FORGETTING = """
held = bytearray(b"x") * (256 << 20)
high = peak_memory()
del held
print(high - peak_memory() if forget_peak() else "cannot")
"""


def test_linux_forgets_the_peak_of_a_process():
    """In one of its own, which nothing before it has grown."""
    imports = f"from {forget_peak.__module__} import forget_peak\n"
    imports += f"from {peak_memory.__module__} import peak_memory\n"
    command = [sys.executable, "-c", imports + FORGETTING]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    if found.stdout.strip() == "cannot":
        pytest.skip("this system cannot count anew")
    assert int(found.stdout) > 128 << 20
