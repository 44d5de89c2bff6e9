"""Speed and memory of the executor beside eager PyTorch, on the package `complete`.

    python -m tests.benchmarks.executor artifacts/kokoro-82m-complete [--runs 5]

Times are taken in turns in one process; peaks in a process of their own for each side, which
loads its weights, runs once and ends. Prints one JSON object; ratios are executor / eager.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from kokoro_coreml.checkpoint import load_checkpoint
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import read_manifest
from kokoro_coreml.memory import peak_memory
from kokoro_coreml.parity.modules import Eager
from kokoro_coreml.stages import complete_stage
from kokoro_coreml.synthesis import Shape, Utterance, shapes_of
from kokoro_coreml.threads import fixed_threads
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import load_voice

SIDES = ("eager", "executor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peak", choices=SIDES, help="measure one side's peak memory and end")
    given = parser.parse_args()
    with fixed_threads():
        if given.peak:
            backend, inputs = _backend(given.bundle, given.peak)
            backend(inputs)
            print(peak_memory())
            return
        print(json.dumps(_compare(given.bundle, given.runs), indent=2))


def _compare(bundle: Path, runs: int) -> dict[str, Any]:
    backends = {side: _backend(bundle, side) for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(runs + 1):
        for side, (backend, inputs) in backends.items():
            began = time.perf_counter()
            backend(inputs)
            if turn:  # the first run warms up
                seconds[side].append(time.perf_counter() - began)
    peaks = {side: _peak(bundle, side) for side in SIDES}
    return {
        "seconds": {side: [round(s, 2) for s in found] for side, found in seconds.items()},
        "peak_bytes": peaks,
        "time_ratio": round(median(seconds["executor"]) / median(seconds["eager"]), 3),
        "peak_ratio": round(peaks["executor"] / peaks["eager"], 3),
    }


def _peak(bundle: Path, side: str) -> int:
    command = [sys.executable, "-m", "tests.benchmarks.executor", str(bundle), "--peak", side]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _backend(
    bundle: Path, side: str
) -> tuple[Callable[[dict[str, np.ndarray]], Any], dict[str, np.ndarray]]:
    manifest = read_manifest(bundle)
    shape = shapes_of(bundle, manifest)[0]
    backend = Program.load(shape.package, shape.function) if side == "executor" else _eager(shape)
    return backend, _inputs(bundle, shape.bucket.tokens)


def _eager(shape: Shape) -> Eager:
    return Eager(complete_stage(load_checkpoint("packaged"), shape.bucket, noise_seed=0))


def _inputs(bundle: Path, tokens: int) -> dict[str, np.ndarray]:
    manifest = read_manifest(bundle)
    sample = manifest.sample
    assert sample is not None
    config = ModelConfig.from_json((bundle / "config.json").read_bytes(), source="config.json")
    ids = Vocabulary.from_config(config).encode(sample.phonemes)
    voice = load_voice(sample.voice, config=config, search=[bundle / "voices"])
    return Utterance(tuple(ids), voice.row(len(sample.phonemes))).inputs(tokens)


if __name__ == "__main__":
    main()
