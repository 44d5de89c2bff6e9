"""A stand-in for `coremltools.libcoremlpython`, the native half that only a Mac has.

coremltools' own Python stays in place and calls this, so a change of its interface fails here. What
the binding does with arrays, names and versions follows `coremlpython/CoreMLPython.mm` and
`CoreMLPythonUtils.mm` of coremltools; predictions are computed by our executor.

Behaviour is told by the environment variable `FAKE_COREML` (JSON), so that a child has it too.
"""

import json
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
from coremltools.models import _compiled_model, compute_device, compute_plan, model, utils
from coremltools.models.compute_plan import (
    MLComputePlan,
    MLComputePlanCost,
    MLComputePlanDeviceUsage,
    MLModelStructure,
    MLModelStructureProgram,
    MLModelStructureProgramBlock,
    MLModelStructureProgramFunction,
    MLModelStructureProgramNamedValueType,
    MLModelStructureProgramOperation,
    MLModelStructureProgramValueType,
)

from kokoro_coreml.coreml import mac
from kokoro_coreml.executor import Program
from kokoro_coreml.executor.package import Package

VARIABLE = "FAKE_COREML"
MARK = "coremldata.bin"
"""What makes a folder a compiled model for Core ML."""

DEFAULTS = {
    "macos": [15, 3],
    "abort_loading": [],  # compute units
    "abort_running": [],
    "hang_running": [],
    "refuse_loading": [],
    "spoil": None,  # of the outputs: "type", "shape", "missing", "extra"
    "silent_plan": False,
}


def behaviour():
    return DEFAULTS | json.loads(os.environ.get(VARIABLE, "{}"))


class Asked:
    """What was asked of the native half in this process."""

    compiled: ClassVar[list[str]]
    loaded: ClassVar[list[tuple[str, str, str]]]
    predicted: ClassVar[list[dict[str, np.ndarray]]]
    states: ClassVar[int]

    @classmethod
    def forget(cls):
        cls.compiled, cls.loaded, cls.predicted, cls.states = [], [], [], 0


Asked.forget()


class _State:
    def __init__(self, program):
        self.program, self.state = program, program.make_state()

    def read_state(self, name):
        return self.state.read(name)


class _MLModelProxy:
    def __init__(self, path, compute_units, function_name, hints, asset=None):
        assert compute_units in {"ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"}
        assert isinstance(hints, dict)
        assert asset is None
        Asked.loaded.append((path, compute_units, function_name))
        if compute_units in behaviour()["refuse_loading"]:
            raise RuntimeError('{\n    NSLocalizedDescription = "Error computing NN outputs.";\n}')
        if compute_units in behaviour()["abort_loading"]:
            _abort("MPSGraphExecutable: assertion failed")
        if function_name and behaviour()["macos"] < [15, 0]:
            raise RuntimeError("The 'functionName' property can only be set on macOS >= 15.0")
        assert path.endswith(".mlmodelc"), "it would be compiled again"
        assert (Path(path) / MARK).is_file()
        description = Package.load(path).model.description
        self._units = compute_units
        self._program = Program.load(path, function_name or _default_function(description))

    def predict(self, data, state):
        assert type(data) is dict
        assert state is None or isinstance(state, _State)
        for value in data.values():
            _require_convertible(value)
        if self._units in behaviour()["abort_running"]:
            _abort("BNNS: unsupported")
        if self._units in behaviour()["hang_running"]:
            import time

            time.sleep(600)
        Asked.predicted.append(data)
        given = {name: data[name] for name in self._program.inputs}
        extra = {} if state is None else {"state": state.state}
        return _spoiled(self._program(given, **extra))

    def newState(self):  # noqa: N802, as the binding has it
        Asked.states += 1
        return _State(self._program)

    @staticmethod
    def compileModel(path):  # noqa: N802
        Asked.compiled.append(path)
        target = Path(tempfile.mkdtemp()) / f"{Path(path).stem}.mlmodelc"
        shutil.copytree(path, target)
        (target / MARK).write_bytes(b"compiled")
        return str(target)

    @staticmethod
    def get_compute_plan(path, compute_units):
        assert isinstance(compute_units, str)
        if Path(path).exists() and not (Path(path) / MARK).is_file():
            _abort("Failed to open file: coremldata.bin. It is not a valid .mlmodelc file.")
        return MLComputePlan(_MLComputePlanProxy(path, compute_units))

    @staticmethod
    def get_available_compute_devices():
        return [device() for device in DEVICES.values()]

    @staticmethod
    def maximum_supported_specification_version():
        return 10


class _MLCPUComputeDeviceProxy:
    pass


class _MLGPUComputeDeviceProxy:
    pass


class _MLNeuralEngineComputeDeviceProxy:
    def get_total_core_count(self):
        return 16


DEVICES = {
    "CPU": lambda: compute_device.MLCPUComputeDevice(_MLCPUComputeDeviceProxy()),
    "GPU": lambda: compute_device.MLGPUComputeDevice(_MLGPUComputeDeviceProxy()),
    "NeuralEngine": lambda: compute_device.MLNeuralEngineComputeDevice(
        _MLNeuralEngineComputeDeviceProxy()
    ),
}

ALLOWED = {
    "ALL": ("CPU", "GPU", "NeuralEngine"),
    "CPU_ONLY": ("CPU",),
    "CPU_AND_GPU": ("CPU", "GPU"),
    "CPU_AND_NE": ("CPU", "NeuralEngine"),
}

COSTS = {"matmul": 0.5, "mul": 0.25, "add": 0.25}


class _MLComputePlanProxy:
    """The plan of the default function: coremltools names none, so the others have no answers."""

    def __init__(self, path, compute_units):
        package = Package.load(path)
        self._default = _default_function(package.model.description)
        self._allowed = ALLOWED[compute_units]
        functions = {n: self._function(n, f) for n, f in package.program.functions.items()}
        self.model_structure = MLModelStructure(
            neuralnetwork=None, program=MLModelStructureProgram(functions), pipeline=None
        )

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        function, kind = operation.__proxy__
        if function != self._default or kind == "const" or behaviour()["silent_plan"]:
            return None
        supported = [d for d in self._allowed if d != "NeuralEngine" or kind != "cumsum"]
        preferred = supported[-1]
        return MLComputePlanDeviceUsage(
            preferred_compute_device=DEVICES[preferred](),
            supported_compute_devices=[DEVICES[d]() for d in supported],
        )

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        function, kind = operation.__proxy__
        known = function == self._default and kind in COSTS
        return MLComputePlanCost(weight=COSTS[kind]) if known else None

    def _function(self, name, proto):
        block = self._block(name, proto.block_specializations[proto.opset])
        return MLModelStructureProgramFunction(inputs=_named(proto.inputs), block=block)

    def _block(self, function, proto):
        return MLModelStructureProgramBlock(
            inputs=_named(proto.inputs),
            operations=[self._operation(function, o) for o in proto.operations],
            output_names=list(proto.outputs),
        )

    def _operation(self, function, proto):
        return MLModelStructureProgramOperation(
            inputs={},
            operator_name=proto.type if proto.type == "const" else f"ios17.{proto.type}",
            outputs=_named(proto.outputs),
            blocks=[self._block(function, b) for b in proto.blocks],
            __proxy__=(function, proto.type),
        )


def install(patch=setattr):
    """Put the stand-in where coremltools and `mac` look; `patch` may be `monkeypatch.setattr`."""
    native = types.ModuleType(mac.NATIVE_MODULE)
    classes = {c.__name__: c for c in (_MLModelProxy, _MLComputePlanProxy)}
    classes |= {
        c.__name__: c
        for c in (
            _MLCPUComputeDeviceProxy,
            _MLGPUComputeDeviceProxy,
            _MLNeuralEngineComputeDeviceProxy,
        )
    }
    for name, value in classes.items():
        setattr(native, name, value)
        for module in (model, _compiled_model, compute_device, compute_plan):
            if hasattr(module, name):
                patch(module, name, value)
    sys.modules[mac.NATIVE_MODULE] = native
    for module in (model, _compiled_model, utils):
        patch(module, "_macos_version", lambda: tuple(behaviour()["macos"]))
        if hasattr(module, "_is_macos"):
            patch(module, "_is_macos", lambda: True)
    patch(mac, "platform", _platform())


def _platform():
    return types.SimpleNamespace(
        system=lambda: "Darwin",
        mac_ver=lambda: (".".join(str(n) for n in behaviour()["macos"]), ("", "", ""), "arm64"),
        machine=lambda: "arm64",
    )


def open_session(**arguments):
    """Instead of `session.open_session`, in a child process."""
    from kokoro_coreml.coreml import session

    install()
    return session.open_session(**arguments)


def _default_function(description):
    return description.defaultFunctionName or "main"


def _named(values):
    kind = MLModelStructureProgramValueType()
    return [MLModelStructureProgramNamedValueType(name=v.name, type=kind) for v in values]


def _require_convertible(value):
    """`PybindCompatibleArray`: writable memory of int32, float32 or double, at least one axis."""
    fits = (
        isinstance(value, np.ndarray)
        and value.flags.writeable
        and value.ndim > 0
        and all(stride > 0 for stride in value.strides)
        and (value.dtype.kind, value.dtype.itemsize) in {("i", 4), ("f", 4), ("f", 8)}
    )
    if not fits:
        print("Error: value type not convertible:")
        print(value)
        raise RuntimeError("value type not convertible")


def _spoiled(outputs):
    first = next(iter(outputs))
    match behaviour()["spoil"]:
        case "type":
            return outputs | {first: outputs[first].astype(np.float64)}
        case "shape":
            return outputs | {first: outputs[first].reshape(-1)[:1]}
        case "missing":
            return {name: value for name, value in outputs.items() if name != first}
        case "extra":
            return outputs | {"more": outputs[first]}
        case "scalar":
            return outputs | {first: 1.0}
    return outputs


def _abort(words):
    print(f"libc++abi: terminating: {words}", file=sys.stderr, flush=True)
    os.abort()
