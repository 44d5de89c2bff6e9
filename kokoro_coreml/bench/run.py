"""`bench`: everything that was asked for, one after the other, as one report."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kokoro_coreml import __version__
from kokoro_coreml.bench.conversion import measure_conversion
from kokoro_coreml.bench.devices import measure_devices
from kokoro_coreml.bench.lines import Line, chosen, prepare
from kokoro_coreml.bench.machine import RUNTIME, describe_machine, versions
from kokoro_coreml.bench.request import EXECUTOR, ONNX, UPSTREAM, BenchRequest, check_request
from kokoro_coreml.bench.results import (
    SCHEMA_VERSION,
    BenchReport,
    BundleSize,
    Conversion,
    DeviceResult,
    Machine,
    NotMeasured,
    Utterances,
)
from kokoro_coreml.bench.sessions import bundle_config
from kokoro_coreml.bench.sizes import bundle_size
from kokoro_coreml.bench.turns import Runner, in_turns
from kokoro_coreml.bench.utterances import utterances
from kokoro_coreml.bundle import verify_files
from kokoro_coreml.checkpoint.packaged import packaged_config, packaged_onnx
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.parity.suite import Suite, load_suite
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import load_recipe
from kokoro_coreml.threads import THREADS

SESSIONS = {
    EXECUTOR: "kokoro_coreml.bench.sessions:open_executor",
    UPSTREAM: "kokoro_coreml.bench.sessions:open_upstream",
    ONNX: "kokoro_coreml.bench.sessions:open_onnx",
}
"""What makes the session of a runner in its process."""

INSTALL = "pip install 'kokoro-coreml[bench]'"
NO_BUNDLE = "no bundle was given"
NO_RECIPE = "not asked for; give --convert RECIPE"
NO_MAC = "needs macOS: run `kokoro-coreml bench BUNDLE --runtime coreml` on a Mac"
ON_DEVICE = "the runtime is coreml; run without --runtime to compare with others"


def bench(request: BenchRequest, *, reporter: Reporter = SILENT) -> BenchReport:
    """Measure what was asked for.

    A part that fails is reported as failed, and the others are still measured.

    Raises:
        BenchError: the request names what does not exist, or nothing.
        CoreMLUnavailableError: the runtime is `coreml` and this is no Mac.
        KokoroError: the bundle, the suite, its voices or the recipe cannot be had.
    """
    check_request(request)
    if request.recipe is not None:
        load_recipe(request.recipe)  # what is misspelt must not be found after an hour
    measured = _Measured(describe_machine())
    if request.bundle is not None:
        _measure_bundle(request, request.bundle, measured, reporter)
    else:
        measured.lack(NO_BUNDLE, "bundle", "utterances", "devices")
    if request.recipe is not None:
        measured.conversion = measure_conversion(
            request.recipe, request.checkpoint, reporter=reporter
        )
    else:
        measured.lack(NO_RECIPE, "conversion")
    return measured.report(request.repeat)


def failures(report: BenchReport) -> list[str]:
    """What was to be measured and failed, each with its reason."""
    runners = report.utterances.runners if report.utterances else ()
    runs = report.conversion.runs if report.conversion else ()
    parts = [
        *((f"runner {one.name}", one.verdict, one.reason) for one in runners),
        *((f"Core ML on {d.compute_units}", d.verdict, d.reason) for d in report.devices),
        *((f"{one.name} conversion", one.verdict, one.reason) for one in runs),
    ]
    return [f"{name}: {reason}" for name, verdict, reason in parts if verdict == "failed"]


@dataclass
class _Measured:
    """The report as far as it is."""

    machine: Machine
    bundle: BundleSize | None = None
    utterances: Utterances | None = None
    devices: Sequence[DeviceResult] = ()
    conversion: Conversion | None = None
    missing: list[NotMeasured] = field(default_factory=list)

    def lack(self, reason: str, *parts: str) -> None:
        """Say why parts are null or empty."""
        self.missing += [NotMeasured(part, reason) for part in parts]

    def report(self, repeat: int) -> BenchReport:
        return BenchReport(
            schema_version=SCHEMA_VERSION,  # type: ignore[arg-type]
            project_version=__version__,
            machine=self.machine,
            versions=versions(),
            threads=THREADS,
            repeat=repeat,
            bundle=self.bundle,
            utterances=self.utterances,
            devices=tuple(self.devices),
            conversion=self.conversion,
            not_measured=tuple(self.missing),
        )


def _measure_bundle(
    request: BenchRequest, bundle: Path, measured: _Measured, reporter: Reporter
) -> None:
    suite = load_suite(request.suite)
    cases = chosen(suite, request.cases)
    with reporter.step(f"check the files of {bundle.name}"):
        manifest = verify_files(bundle)
        measured.bundle = bundle_size(bundle, manifest)
    config = bundle_config(bundle, manifest)
    lines = prepare(cases, bundle, manifest, config, reporter)
    if request.runtime == "coreml":
        measured.lack(ON_DEVICE, "utterances")
        measured.devices = measure_devices(
            bundle, lines, units=request.compute_units, repeat=request.repeat, reporter=reporter
        )
        return
    measured.lack(NO_MAC, "devices")
    measured.utterances = _speak(request, bundle, manifest, suite, lines, reporter)


def _speak(
    request: BenchRequest,
    bundle: Path,
    manifest: Manifest,
    suite: Suite,
    lines: Sequence[Line],
    reporter: Reporter,
) -> Utterances:
    places = [
        (Path(package.file).name, function.name)
        for package in manifest.packages
        for function in package.functions
    ]
    with tempfile.TemporaryDirectory(prefix="kokoro-coreml-bench-") as folder:
        runners = [
            _runner(name, request, bundle, manifest, Path(folder)) for name in request.runners
        ]
        turns = in_turns(runners, lines, repeat=request.repeat, reporter=reporter)
    return utterances(turns, lines, places, suite=suite.name, precision=request.precision)


def _runner(
    name: str, request: BenchRequest, bundle: Path, manifest: Manifest, folder: Path
) -> Runner:
    factory = SESSIONS[name]
    if name == EXECUTOR:
        what = f"the bundle through the executor, precision {request.precision}"
        arguments = {"bundle": str(bundle), "precision": request.precision}
        return Runner(name, what, factory, arguments)
    if name == UPSTREAM:
        what = "upstream's KModel in PyTorch, eager, float32"
        wanted = {"bundle": str(bundle), "checkpoint": request.checkpoint}
        return Runner(name, what, factory, wanted)
    what = "the packaged int8 ONNX export of Kokoro-82M v1.0, on the CPU"
    path = folder / "kokoro.onnx"
    skipped = _write_onnx(path, bundle_config(bundle, manifest))
    return Runner(name, what, factory, {"model": str(path)}, skipped)


def _write_onnx(path: Path, config: ModelConfig) -> str | None:
    """Write the packaged export to a file; returns why that cannot be."""
    if importlib.util.find_spec(RUNTIME) is None:
        return f"{RUNTIME} is not installed; run: {INSTALL}"
    try:
        same = config == ModelConfig.from_json(packaged_config(), source="packaged config.json")
        if not same:
            return "the packaged export is of Kokoro-82M, and the bundle of another network"
        path.write_bytes(packaged_onnx())
    except CheckpointError as error:
        return str(error)
    return None
