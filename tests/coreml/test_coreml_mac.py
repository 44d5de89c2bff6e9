"""What is checked before Core ML is asked, and that what we call exists in coremltools."""

import importlib
import inspect
import platform
import sys

import pytest

from kokoro_coreml.coreml import CoreMLUnavailableError, mac, require_bridge, require_mac
from kokoro_coreml.coreml.errors import CoreMLError
from kokoro_coreml.errors import KokoroError

ON_A_MAC = sys.platform == "darwin"


@pytest.mark.skipif(ON_A_MAC, reason="there is Core ML here")
def test_another_system_is_told_plainly_what_to_do():
    with pytest.raises(CoreMLUnavailableError) as caught:
        require_mac()
    assert isinstance(caught.value, KokoroError)
    assert caught.value.exit_code == 9
    text = str(caught.value)
    assert "--runtime coreml needs macOS 14 or later" in text
    assert f"this is {platform.system()}" in text
    assert "--runtime executor" in text
    with pytest.raises(CoreMLUnavailableError, match=r"^--backend coreml.* use --backend executor"):
        require_mac("--backend")


@pytest.mark.skipif(ON_A_MAC, reason="coremltools is complete here")
def test_an_incomplete_coremltools_is_named():
    with pytest.raises(CoreMLUnavailableError, match=r"coremltools.libcoremlpython cannot be load"):
        require_bridge()


@pytest.fixture
def version(monkeypatch):
    def set_version(text, system="Darwin"):
        monkeypatch.setattr(mac.platform, "system", lambda: system)
        monkeypatch.setattr(mac.platform, "mac_ver", lambda: (text, ("", "", ""), "arm64"))

    return set_version


def test_an_old_macos_is_named_beside_what_is_needed(version):
    version("13.6.1")
    with pytest.raises(CoreMLUnavailableError, match=r"needs macOS 14 or later.* has 13\.6\.1"):
        require_mac()
    version("14.0")
    assert require_mac() == (14, 0)
    version("26.1")
    assert require_mac() == (26, 1)
    version("", system="")
    with pytest.raises(CoreMLUnavailableError, match="this is an unknown system"):
        require_mac()
    version("")
    with pytest.raises(CoreMLUnavailableError, match="version of macOS is unknown"):
        require_mac()


@pytest.mark.parametrize(
    ("specification", "found", "needed"), [(9, "14.7", "15"), (10, "15.6", "26"), (8, "13.0", "14")]
)
def test_a_package_newer_than_macos_names_both_versions(version, specification, found, needed):
    version(found)
    expected = rf"x\.mlpackage.* needs macOS {needed} or later, but this Mac has {found[:2]}"
    with pytest.raises(CoreMLUnavailableError, match=expected):
        mac.require_specification(specification, "x.mlpackage")
    version(f"{needed}.0")
    mac.require_specification(specification, "x.mlpackage")


def test_an_unknown_specification_and_unknown_units_are_errors(version):
    version("99.0")
    with pytest.raises(CoreMLError, match="version 11, but versions up to 10"):
        mac.require_specification(11, "x.mlpackage")
    with pytest.raises(CoreMLError, match="unknown compute units 'cpu'; known: ALL, CPU_ONLY"):
        mac.require_units("cpu")


def test_specification_versions_and_compute_units_are_those_of_coremltools():
    import coremltools as ct

    first = ct._SPECIFICATION_VERSION_IOS_15
    assert sorted(mac._MACOS_OF_SPECIFICATION) == list(range(first, max(ct._OPSET) + 1))
    for unit in mac.COMPUTE_UNITS:
        assert mac.compute_unit(unit).name == unit
    assert sorted(mac.COMPUTE_UNITS) == sorted(unit.name for unit in ct.ComputeUnit)


CALLS = {
    "coremltools.models.utils:compile_model": (("x",), {"destination_path": "y"}),
    "coremltools.models:CompiledMLModel": (
        ("x",),
        {"compute_units": "ALL", "function_name": None},
    ),
    "coremltools.models:CompiledMLModel.predict": (("self", {}, None), {}),
    "coremltools.models:CompiledMLModel.make_state": (("self",), {}),
    "coremltools.models:MLModel.get_available_compute_devices": ((), {}),
    "coremltools.models.compute_plan:MLComputePlan.load_from_path": (
        (),
        {"path": "x", "compute_units": "ALL"},
    ),
    "coremltools.models.compute_plan:"
    "MLComputePlan.get_compute_device_usage_for_mlprogram_operation": (("self", "o"), {}),
    "coremltools.models.compute_plan:MLComputePlan.get_estimated_cost_for_mlprogram_operation": (
        ("self", "o"),
        {},
    ),
}
"""Every call into coremltools on a Mac, with the arguments we give."""

FIELDS = {
    "MLModelStructure": {"program"},
    "MLModelStructureProgram": {"functions"},
    "MLModelStructureProgramFunction": {"block"},
    "MLModelStructureProgramBlock": {"operations"},
    "MLModelStructureProgramOperation": {"operator_name", "outputs", "blocks"},
    "MLModelStructureProgramNamedValueType": {"name"},
    "MLComputePlanDeviceUsage": {"preferred_compute_device", "supported_compute_devices"},
    "MLComputePlanCost": {"weight"},
}
"""Every attribute we read of what the compute plan returns."""


@pytest.mark.parametrize("name", CALLS)
def test_the_installed_coremltools_takes_the_calls_we_make(name):
    module, _, path = name.partition(":")
    target = importlib.import_module(module)
    for part in path.split("."):
        target = getattr(target, part)
    arguments, keywords = CALLS[name]
    inspect.signature(target).bind(*arguments, **keywords)


def test_the_installed_coremltools_has_the_fields_and_devices_we_read():
    from coremltools.models import compute_device, compute_plan

    from kokoro_coreml.coreml.planner import _DEVICE_CLASSES

    for name, fields in FIELDS.items():
        assert fields <= set(getattr(compute_plan, name).__dataclass_fields__), name
    assert isinstance(
        inspect.getattr_static(compute_plan.MLComputePlan, "model_structure"), property
    )
    kinds = {c.__name__ for c in compute_device.MLComputeDevice.__subclasses__()}
    assert set(_DEVICE_CLASSES) <= kinds
