"""Packages and bundles that several tests inspect, and a stand-in for a Mac."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

from kokoro_coreml.bundle import seal
from kokoro_coreml.manifest import BucketRecord, FunctionRecord, PackageRecord, TensorRecord
from tests.coreml.conftest import behave, fake_mac, mac_children
from tests.placement.packages import f16, half, save
from tests.support.bundles import CONTENT, example_manifest

__all__ = ["behave", "fake_mac", "mac_children"]


def stage(width: int):
    """A convolution, a sine, and a sum over the row, which no Neural Engine can accumulate."""

    def body(x):
        y = mb.conv(x=x, weight=f16(8, 4, 1, 3), pad_type="same", name="body")
        y = mb.cumsum(x=mb.sin(x=y, name="wave"), axis=3, name="total")
        return mb.mul(x=y, y=np.float16(0.5), name="out")

    return body, [half(1, 4, 2, width)]


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    body, specs = stage(64)
    return save(body, specs, tmp_path_factory.mktemp("stage") / "Stage.mlpackage", ios=18)


@pytest.fixture(scope="session")
def two_functions(tmp_path_factory):
    """The functions `frames_64` (the default) and `frames_128`."""
    folder = tmp_path_factory.mktemp("functions")
    descriptor = MultiFunctionDescriptor()
    for width in (64, 128):
        path = save(*stage(width), folder / f"{width}.mlpackage", ios=18)
        descriptor.add_function(str(path), "main", f"frames_{width}")
    descriptor.default_function_name = "frames_64"
    save_multifunction(descriptor, str(folder / "Two.mlpackage"))
    return folder / "Two.mlpackage"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, two_functions):
    """The two functions for the Neural Engine, with 64 and 128 frames, in a sealed bundle."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    for name, content in CONTENT.items():
        if ".mlpackage" not in name:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    shutil.copytree(two_functions, folder / "Two.mlpackage")
    buckets = [BucketRecord(None, 64), BucketRecord(None, 128)]
    functions = tuple(_function(bucket) for bucket in buckets)
    record = PackageRecord(
        "Two.mlpackage", "pipeline", "Decoder", functions, "float16", "iOS18", "CPU_AND_NE"
    )
    manifest = replace(example_manifest(), packages=(record,), buckets=tuple(buckets))
    seal(folder, manifest)
    return folder


def _function(bucket):
    frames = bucket.frames
    return FunctionRecord(
        f"frames_{frames}",
        bucket,
        (TensorRecord("x", "float16", (1, 4, 2, frames)),),
        (TensorRecord("out", "float16", (1, 8, 2, frames)),),
    )
