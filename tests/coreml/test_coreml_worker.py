"""The worker as a backend: real child processes, with a stand-in for Core ML in them."""

from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

from kokoro_coreml.coreml import (
    CoreMLCrashError,
    CoreMLError,
    CoreMLTimeoutError,
    CoreMLUnavailableError,
    CoreMLWorker,
    device_plan,
    measure,
    worker,
)
from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import Program
from kokoro_coreml.synthesis import Utterance, speak
from tests.coreml.conftest import _save

TOKENS, SAMPLES = 8, 4_800


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A package with the interface of the `complete` cut that hums: half of its audio is speech."""

    @mb.program(
        input_specs=[
            mb.TensorSpec((1, TOKENS), dtype=types.int32),
            mb.TensorSpec((1, 256), dtype=types.fp32),
            mb.TensorSpec((1, 9), dtype=types.fp32),
            mb.TensorSpec((1, TOKENS), dtype=types.int32),
            mb.TensorSpec((1,), dtype=types.fp32),
        ],
        opset_version=ct.target.iOS17,
    )
    def body(input_ids, ref_s, random_phases, attention_mask, speed):
        level = mb.reduce_mean(x=ref_s, axes=[1], keep_dims=True)
        shift = mb.reduce_sum(x=random_phases, axes=[1], keep_dims=True)
        level = mb.mul(x=mb.add(x=level, y=shift), y=speed)
        wave = np.zeros((1, 1, SAMPLES), dtype=np.float32)
        wave[..., : SAMPLES // 2] = np.sin(np.arange(SAMPLES // 2) / 10)
        audio = mb.mul(x=wave, y=mb.reshape(x=level, shape=[1, 1, 1]), name="audio")
        pred_dur = mb.mul(
            x=attention_mask, y=mb.minimum(x=input_ids, y=np.int32(1)), name="pred_dur"
        )
        frames = mb.reduce_sum(x=attention_mask, axes=[1])
        length = mb.add(
            x=mb.mul(x=frames, y=np.int32(0)), y=np.int32(SAMPLES // 2), name="audio_length_samples"
        )
        return audio, length, pred_dur

    return _save(body, tmp_path_factory.mktemp("talker") / "talker.mlpackage", ct.target.iOS17)


@pytest.fixture
def utterance():
    return Utterance(
        ids=(0, 5, 6, 0), ref_s=np.full((1, 256), 0.25, dtype=np.float32), phases=(0.01,) * 9
    )


def test_speaking_through_a_worker_equals_the_executor(mac_children, talker, utterance):
    expected = speak(Program.load(talker), utterance, TOKENS)
    with CoreMLWorker(talker, "main", "CPU_AND_NE") as backend:
        spoken = speak(backend, utterance, TOKENS)
        timing = measure(backend, utterance.inputs(TOKENS), warm=0, runs=2)
        folder = Path(backend._own.name)
        assert list(folder.glob("talker-*.mlmodelc"))
    np.testing.assert_array_equal(spoken.audio, expected.audio)
    np.testing.assert_array_equal(spoken.durations, expected.durations)
    assert spoken.audio.size == SAMPLES // 2
    assert timing.compute_units == "CPU_AND_NE"
    assert timing.first_seconds == backend.run_seconds[0]
    assert len(backend.run_seconds) == 3
    assert min(backend.run_seconds) > 0
    assert timing.load_seconds > 0
    assert timing.compile_seconds > 0
    assert not folder.exists(), "what was compiled is left behind"


def test_an_abort_of_one_unit_leaves_the_others(mac_children, talker, utterance, tmp_path):
    mac_children(
        abort_loading=["CPU_AND_NE"], abort_running=["CPU_AND_GPU"], refuse_loading=["ALL"]
    )
    found = {}
    for units in ("CPU_AND_NE", "CPU_AND_GPU", "ALL", "CPU_ONLY"):
        try:
            with CoreMLWorker(talker, "main", units, folder=tmp_path) as backend:
                found[units] = speak(backend, utterance, TOKENS).audio.size
        except CoreMLError as error:
            found[units] = error
    crash = found["CPU_AND_NE"]
    assert isinstance(crash, CoreMLCrashError)
    assert "SIGABRT while loading talker.mlpackage:main on CPU_AND_NE" in str(crash)
    assert "MPSGraphExecutable" in str(crash)
    assert isinstance(found["CPU_AND_GPU"], CoreMLCrashError)
    assert "SIGABRT while running talker.mlpackage:main on CPU_AND_GPU" in str(found["CPU_AND_GPU"])
    assert type(found["ALL"]) is CoreMLError
    assert "NSLocalizedDescription" in str(found["ALL"])
    assert found["CPU_ONLY"] == SAMPLES // 2
    assert [p.suffix for p in tmp_path.iterdir()] == [".mlmodelc"], "compiled once, for all"


def test_a_hang_is_ended(mac_children, talker, utterance):
    mac_children(hang_running=["CPU_ONLY"])
    with CoreMLWorker(talker, "main", "CPU_ONLY") as backend:
        backend._child.timeout = 1.0
        with pytest.raises(CoreMLTimeoutError, match="within 1 s while running talker"):
            backend(utterance.inputs(TOKENS))


def test_plans_come_from_a_child_without_loading(mac_children, talker):
    mac_children(abort_loading=["CPU_AND_NE"])
    plan = device_plan(talker, "main", "CPU_AND_NE")
    assert {s.device for s in plan.summary()} == {"NeuralEngine"}
    assert plan.function == "main"


def test_wrong_inputs_and_packages_are_errors_of_their_kind(mac_children, talker, tmp_path):
    with CoreMLWorker(talker) as backend, pytest.raises(CoreMLError, match="missing"):
        backend({})
    with pytest.raises(PackageError, match="cannot be read"):
        CoreMLWorker(tmp_path / "absent.mlpackage").start()
    with pytest.raises(CoreMLError, match="is not running"):
        CoreMLWorker(talker)({})
    with pytest.raises(CoreMLError, match="unknown compute units"):
        CoreMLWorker(talker, "main", "NPU")


def test_without_a_mac_nothing_is_started(talker, monkeypatch):
    monkeypatch.setattr(worker.tempfile, "TemporaryDirectory", None)
    monkeypatch.setattr(worker, "ChildProcess", None)
    monkeypatch.setattr("kokoro_coreml.coreml.mac.platform.system", lambda: "Linux")
    with pytest.raises(CoreMLUnavailableError, match="needs macOS 14"):
        CoreMLWorker(talker).start()
    with pytest.raises(CoreMLUnavailableError, match="needs macOS 14"):
        device_plan(talker)
