"""The process boundary, with real processes that abort, hang, raise and work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kokoro_coreml.coreml.errors import (
    CoreMLCrashError,
    CoreMLError,
    CoreMLTimeoutError,
    CoreMLUnavailableError,
)
from kokoro_coreml.coreml.process import ChildProcess
from kokoro_coreml.errors import PackageError

PATIENT = "tests.support.crashing:patient"


@pytest.fixture
def child():
    process = ChildProcess(PATIENT, {"name": "anna"}, timeout=60)
    yield process
    process.close()


def test_one_object_serves_many_calls_in_another_process(child):
    array = np.arange(300_000, dtype=np.float32)
    assert child.call("echo", 1, doing="echoing") == ("anna", 1, 1)
    name, calls, back = child.call("echo", array, doing="echoing")
    assert (name, calls) == ("anna", 2)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    pid, session = child.call("where", doing="asking")
    assert pid != os.getpid()
    assert session != os.getsid(0), "Ctrl-C would reach the child"


def test_an_abort_is_an_error_that_names_the_signal_and_the_last_words(child):
    with pytest.raises(CoreMLCrashError, match=r"SIGABRT while running x.*libc\+\+abi") as caught:
        child.call("abort", doing="running x")
    assert isinstance(caught.value, PackageError)
    assert not child.alive
    with pytest.raises(CoreMLError, match="running y: the process has ended before"):
        child.call("echo", 1, doing="running y")


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGSEGV, "SIGSEGV while"), (signal.SIGKILL, r"SIGKILL \(.*memory is short\) while")],
)
def test_other_signals_are_named(child, number, name):
    with pytest.raises(CoreMLCrashError, match=name):
        child.call("kill", int(number), doing="running")


def test_an_exit_is_reported_with_its_code(child):
    with pytest.raises(CoreMLCrashError, match=r"ended by itself \(exit code 7\) while running"):
        child.call("leave", 7, doing="running")


def test_a_hang_is_ended_and_reported():
    child = ChildProcess(PATIENT, {}, timeout=60)
    pid, _ = child.call("where", doing="asking")
    child.timeout = 0.5
    with pytest.raises(CoreMLTimeoutError, match=r"within 0.5 s while running; .* was killed"):
        child.call("hang", doing="running")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(CoreMLError, match="has ended before"):
        child.call("echo", 1, doing="going on")


def test_what_a_method_raises_arrives_and_the_process_goes_on(child):
    with pytest.raises(CoreMLError, match=r"RuntimeError while running x: .*NSLocalized") as caught:
        child.call("fail", doing="running x")
    assert type(caught.value) is CoreMLError
    with pytest.raises(PackageError, match="refused: package") as caught:
        child.call("refuse", "package", doing="running")
    assert type(caught.value) is PackageError
    with pytest.raises(CoreMLUnavailableError, match="refused: unavailable"):
        child.call("refuse", "unavailable", doing="running")
    with pytest.raises(CoreMLError, match=r"^refused: another") as caught:
        child.call("refuse", "another", doing="running")
    assert type(caught.value) is CoreMLError
    with pytest.raises(CoreMLError, match="while running"):
        child.call("unpicklable", doing="running")
    with pytest.raises(CoreMLError, match=r"AttributeError.*no_such"):
        child.call("no_such", doing="running")
    assert child.call("echo", 5, doing="echoing") == ("anna", 1, 5)


def test_printing_does_not_disturb_answers(child):
    assert child.call("shout", 20_000, doing="shouting") == 20_000
    with pytest.raises(CoreMLCrashError) as caught:
        child.call("abort", doing="running")
    assert "line 19999 of noise" in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_a_factory_that_dies_or_raises_fails_at_the_start():
    with pytest.raises(CoreMLCrashError, match="SIGABRT while starting"):
        ChildProcess("tests.support.crashing:stillborn", {}, timeout=60)
    with pytest.raises(PackageError, match="no such package"):
        ChildProcess("tests.support.crashing:missing_package", {}, timeout=60)
    with pytest.raises(CoreMLError, match="TypeError while starting"):
        ChildProcess(PATIENT, {"nonsense": 1}, timeout=60)


def test_closing_ends_the_process_and_leaves_nothing_open():
    before = open_files()
    child = ChildProcess(PATIENT, {}, timeout=60)
    pid, _ = child.call("where", doing="asking")
    child.close()
    child.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert open_files() == before


def test_the_child_ends_when_its_parent_does():
    code = (
        "import os\n"
        "from kokoro_coreml.coreml.process import ChildProcess\n"
        f"child = ChildProcess({PATIENT!r}, {{}}, timeout=60)\n"
        "print(child.call('where', doing='asking')[0], flush=True)\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 9, done.stderr
    pid = int(done.stdout)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not runs(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the child outlived its parent")


def runs(pid):
    """Nobody may have reaped it: then it is still listed, as a zombie."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith("Z")


def open_files():
    """File descriptors of this process; empty where the system does not list them."""
    folder = Path("/dev/fd")
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
