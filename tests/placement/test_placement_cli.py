"""`inspect` on the command line, on Linux and on a stand-in for a Mac."""

from __future__ import annotations

import json
import platform

import jsonschema
import pytest

from kokoro_coreml.cli import main
from kokoro_coreml.coreml import load_plan
from kokoro_coreml.errors import PlacementError
from kokoro_coreml.placement import inspection_schema

NEURAL = ["--compute-units", "CPU_AND_NE"]


def test_a_person_reads_summary_devices_findings_and_operations(package, capsys):
    assert main(["inspect", str(package), *NEURAL, "--generation", "M4", "--top", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0] == "Stage.mlpackage:main for CPU_AND_NE, Neural Engine H16"
    assert "  4 operations, 2 changes of device" in lines
    assert any(line.split()[:3] == ["NeuralEngine", "3", "operations,"] for line in lines)
    assert "  largest axis 64 at conv body" in lines
    assert "    severe: running-sum (H16)" in lines
    assert any(line.strip().startswith("measured by others: https://") for line in lines)
    top = lines[lines.index("  largest operations") + 2 :]
    assert len(top) == 2
    assert top[0].split()[1] == "conv"


def test_what_is_unknown_stands_beside_the_changes_it_may_hide(package, capsys):
    """Generations differ about the sine."""
    assert main(["inspect", str(package), *NEURAL]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "  4 operations, at least 2 changes of device, 1 operations unknown" in lines
    assert "    on H13, H14: 2 NeuralEngine, 1 unknown, 1 CPU" in lines
    assert "    on H15, H16, H17, H18: 3 NeuralEngine, 1 CPU" in lines


def test_json_is_one_object_of_the_schema(package, capsys):
    assert main(["inspect", str(package), *NEURAL, "--json", "--seconds", "2"]) == 0
    record = json.loads(capsys.readouterr().out)
    jsonschema.validate(record, inspection_schema())
    (function,) = record["packages"][0]["functions"]
    assert function["summary"]["seconds"] == 2
    assert function["agreement"] is None
    assert len(function["operations"]) == 4


def test_strict_leaves_with_its_own_code_only_for_what_is_severe(package, capsys):
    assert main(["inspect", str(package), *NEURAL, "--strict"]) == PlacementError.exit_code == 12
    assert "running-sum" in capsys.readouterr().err
    assert main(["inspect", str(package), "--compute-units", "ALL", "--strict"]) == 0
    assert "note: running-sum" in capsys.readouterr().err


def test_a_bundle_needs_no_compute_units(bundle, capsys):
    assert main(["inspect", str(bundle), "--function", "frames_128"]) == 0
    shown = capsys.readouterr().err
    assert "Two.mlpackage:frames_128 for CPU_AND_NE" in shown
    assert "frames_64" not in shown
    assert "per second of audio (3.2 s a call)" in shown


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ([], 12, "pass --compute-units"),
        (["--compute-units", "NE"], 12, "unknown compute units 'NE'"),
        ([*NEURAL, "--generation", "M9"], 12, "unknown generation 'M9'"),
        ([*NEURAL, "--function", "other"], 9, "no function 'other'"),
        ([*NEURAL, "--seconds", "0"], 12, "expected more than 0"),
        ([*NEURAL, "--plan", "absent.json"], 9, "cannot read the compute plan"),
        ([*NEURAL, "--save-plan", "plan.json"], 12, "which only a Mac has"),
        ([*NEURAL, "--plan", "a", "--save-plan", "b"], 2, "exclude one another"),
    ],
)
def test_what_is_wrong_is_named(package, capsys, change, code, message):
    assert main(["inspect", str(package), *change]) == code
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def mac(mac_children, monkeypatch):
    """Core ML's stand-in puts `cumsum` on the CPU, and all else on the Neural Engine if allowed."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    return mac_children


def test_on_a_mac_the_plan_stands_beside_the_prediction(mac, package, capsys):
    assert main(["inspect", str(package), *NEURAL, "--generation", "M4", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    agreement = record["packages"][0]["functions"][0]["agreement"]
    assert (agreement["compared"], agreement["agreed"], agreement["admissible"]) == (4, 4, 4)
    assert agreement["table"] == {"CPU > CPU": 1, "NeuralEngine > NeuralEngine": 3}


def test_a_plan_saved_on_a_mac_is_read_anywhere(mac, two_functions, tmp_path, monkeypatch, capsys):
    file = tmp_path / "plan.json"
    command = ["inspect", str(two_functions), *NEURAL, "--generation", "M4"]
    assert main([*command, "--save-plan", str(file)]) == 12
    assert "name it with --function" in capsys.readouterr().err
    one = [*command, "--function", "frames_128"]
    assert main([*one, "--save-plan", str(file)]) == 0
    assert load_plan(file).function == "frames_128"
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    capsys.readouterr()
    assert main([*one, "--plan", str(file)]) == 0
    assert "4 of 4 predictions are its choice, 4 fit what it supports" in capsys.readouterr().err


def test_a_mac_that_cannot_plan_leaves_the_prediction_alone(mac, package, capsys):
    mac(macos=[14, 0])
    assert main(["inspect", str(package), *NEURAL]) == 0
    shown = capsys.readouterr().err
    assert "warning: no plan of Stage.mlpackage:main" in shown
    assert "Core ML's plan" not in shown
