"""Sizes, against the files themselves."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from kokoro_coreml.bench.sizes import _function, _Weights, bundle_size
from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import Program
from kokoro_coreml.executor.package import Package
from kokoro_coreml.manifest import BucketRecord, FunctionRecord, TensorRecord, read_manifest
from tests.coreml.conftest import two_functions  # noqa: F401
from tests.support.tiny_bundle import FRAMES, PACKAGE, TOKENS


def test_sizes_are_those_of_the_files(small):
    found = bundle_size(small.bundle, read_manifest(small.bundle))
    files = [path for path in small.bundle.rglob("*") if path.is_file()]
    assert found.total_bytes == sum(path.stat().st_size for path in files)
    manifest = (small.bundle / "manifest.json").read_bytes()
    assert found.manifest_sha256 == hashlib.sha256(manifest).hexdigest()
    assert (found.name, found.recipe) == ("bundle", "tiny")
    (package,) = found.packages
    folder = small.bundle / PACKAGE
    inner = folder / "Data" / "com.apple.CoreML"
    weights = (inner / "weights" / "weight.bin").stat().st_size
    assert package.graph_bytes == (inner / "model.mlmodel").stat().st_size
    assert package.weight_bytes == weights
    assert package.total_bytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    (function,) = package.functions
    assert (function.name, function.tokens, function.frames) == ("main", TOKENS, FRAMES)
    assert function.operations >= len(Program.load(folder).operations)
    assert 0.9 * package.graph_bytes < function.graph_bytes <= package.graph_bytes
    # headers and padding are the rest
    assert 0.99 * weights < function.weight_bytes < weights


def test_functions_are_counted_one_by_one(two_functions):  # noqa: F811
    package, weights = Package.load(two_functions), _Weights(two_functions)
    port = (TensorRecord("x", "float32", (1,)),)
    sizes = {
        name: _function(
            package, weights, FunctionRecord(name, BucketRecord(1, None), port, port)
        ).weight_bytes
        for name in ("four", "eight")
    }
    assert sizes == {"four": 4 * 4 * 3, "eight": 4 * 8 * 3}


def test_a_damaged_weight_file_is_an_error(small, tmp_path):
    copy = tmp_path / PACKAGE
    shutil.copytree(small.bundle / PACKAGE, copy)
    path = copy / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    path.write_bytes(path.read_bytes()[:200])
    weights = _Weights(copy)
    with pytest.raises(PackageError, match="no value at 4096"):
        weights.size("@model_path/weights/weight.bin", 4096)
    path.unlink()
    with pytest.raises(PackageError, match="found 0"):
        _Weights(copy).size("@model_path/weights/weight.bin", 64)
