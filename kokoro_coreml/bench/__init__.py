"""Benchmarks: sizes, times and memory of a bundle, on the machine this runs on.

Everything that is compared is measured in turns within one run, in a process of its own. What was
not measured is null, and the report says why.
"""

from kokoro_coreml.bench.request import RUNNERS, BenchRequest
from kokoro_coreml.bench.results import BenchReport, bench_schema, load_bench
from kokoro_coreml.bench.run import bench
from kokoro_coreml.bench.text import render

__all__ = [
    "RUNNERS",
    "BenchReport",
    "BenchRequest",
    "bench",
    "bench_schema",
    "load_bench",
    "render",
]
