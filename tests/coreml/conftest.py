import json

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

from kokoro_coreml.coreml import worker
from tests.support import fake_coreml


@pytest.fixture
def behave(monkeypatch):
    """Say what the stand-in for Core ML does, in this process and in its children."""

    def behave(**changes):
        monkeypatch.setenv(fake_coreml.VARIABLE, json.dumps(changes))

    behave()
    return behave


@pytest.fixture
def fake_mac(behave, monkeypatch):
    """coremltools with a stand-in for its native half, in this process."""
    import sys

    from kokoro_coreml.coreml import mac

    fake_coreml.Asked.forget()
    monkeypatch.setitem(sys.modules, mac.NATIVE_MODULE, None)
    fake_coreml.install(monkeypatch.setattr)
    return behave


@pytest.fixture
def mac_children(fake_mac, monkeypatch):
    """Children that find a stand-in for Core ML; this process takes itself for a Mac."""
    monkeypatch.setattr(worker, "SESSION_FACTORY", "tests.support.fake_coreml:open_session")
    return fake_mac


@pytest.fixture(scope="session")
def simple_package(tmp_path_factory):
    """x [2, 4] float32, n [3] int32 -> y [2, 3], half (a float16 output) [2, 3], m [3] int32."""
    path = tmp_path_factory.mktemp("simple") / "simple.mlpackage"
    return _save(_simple(4), path, ct.target.iOS17)


@pytest.fixture(scope="session")
def two_functions(tmp_path_factory):
    """The same for iOS 18 with the functions `four` (the default) and `eight`: x [2, 8]."""
    folder = tmp_path_factory.mktemp("two")
    descriptor = MultiFunctionDescriptor()
    for name, width in (("four", 4), ("eight", 8)):
        path = _save(_simple(width), folder / f"{name}.mlpackage", ct.target.iOS18)
        descriptor.add_function(str(path), "main", name)
    descriptor.default_function_name = "four"
    save_multifunction(descriptor, str(folder / "two.mlpackage"))
    return folder / "two.mlpackage"


@pytest.fixture(scope="session")
def stateful_package(tmp_path_factory):
    """Adds x [3] to the state `total` and gives it as y."""

    @mb.program(
        input_specs=[
            mb.TensorSpec((3,), dtype=types.fp16),
            mb.StateTensorSpec((3,), dtype=types.fp16),
        ],
        opset_version=ct.target.iOS18,
    )
    def body(x, total):
        read = mb.read_state(input=total)
        return mb.coreml_update_state(state=total, value=mb.add(x=read, y=x), name="y")

    return _save(body, tmp_path_factory.mktemp("state") / "state.mlpackage", ct.target.iOS18)


def _simple(width):
    weight = np.linspace(-1, 1, width * 3, dtype=np.float32).reshape(width, 3)

    @mb.program(
        input_specs=[
            mb.TensorSpec((2, width), dtype=types.fp32),
            mb.TensorSpec((3,), dtype=types.int32),
        ],
        opset_version=ct.target.iOS17 if width == 4 else ct.target.iOS18,
    )
    def body(x, n):
        y = mb.matmul(x=x, y=weight, name="y")
        half = mb.cast(x=mb.mul(x=y, y=np.float32(0.5)), dtype="fp16", name="half")
        total = mb.cumsum(x=n, axis=0, name="total")
        return y, half, mb.add(x=total, y=np.int32(1), name="m")

    return body


def _save(body, path, target):
    model = ct.convert(
        body,
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
        pass_pipeline=ct.PassPipeline.EMPTY,
    )
    model.save(str(path))
    return path
