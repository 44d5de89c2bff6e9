"""Who says what when, and what a failure of one means for the others."""

from __future__ import annotations

import pytest

from kokoro_coreml.bench.sessions import Loaded, Said
from kokoro_coreml.bench.turns import Runner, in_turns, start
from kokoro_coreml.errors import PackageError
from kokoro_coreml.progress import SILENT
from tests.bench.conftest import line

LINES = [line("x"), line("y")]


class Remote:
    """A session that writes down what it is asked, and fails where it is told to."""

    def __init__(self, name, log, faults):
        self.name, self.log, self.faults, self.count = name, log, faults, 0
        self.closed = False

    def call(self, method, *arguments, doing):
        if method == "load":
            self._fail(f"{self.name} load")
            return Loaded(1.0, 10, 20)
        if method == "peak_bytes":
            return 30
        if method == "load_seconds":
            return {}
        (said,) = arguments
        self.count += 1
        step = f"{self.name}{said.case}"
        self.log.append(step)
        self._fail(f"{self.name} {self.count}")
        skipped = "too long" if f"{step} skipped" in self.faults else None
        return Said(float(self.count), 2.0, skipped=skipped)

    def _fail(self, at):
        if at in self.faults:
            raise PackageError(f"died at {at}")

    def close(self):
        self.closed = True


@pytest.fixture
def play():
    class Play:
        def __init__(self):
            self.log, self.remotes = [], []

        def __call__(self, *names, faults=(), repeat=2, skipped=None):
            def make(runner):
                if f"{runner.name} start" in faults:
                    raise PackageError("cannot start")
                self.remotes.append(Remote(runner.name, self.log, faults))
                return self.remotes[-1]

            runners = [
                Runner(name, name, skipped="not here" if name == skipped else None)
                for name in names
            ]
            return in_turns(runners, LINES, repeat=repeat, reporter=SILENT, start=make)

    return Play()


def test_runners_take_turns_line_by_line_and_round_by_round(play):
    turns = play("a", "b", "c")
    first = ["ax", "bx", "cx", "ay", "by", "cy"]
    second = ["bx", "cx", "ax", "by", "cy", "ay"]  # nobody always follows the same one
    assert play.log == first + first + second
    for turn in turns:
        assert [said.seconds for said in turn.rounds["x"]] == [3.0, 5.0], "the first does not count"
        assert turn.first["x"].seconds == 1.0
        assert (turn.failure, turn.peak_bytes) == (None, 30)
    assert all(remote.closed for remote in play.remotes)


@pytest.mark.parametrize("fault", ["b start", "b load", "b 1", "b 4"])
def test_a_failure_ends_the_part_of_one_runner_alone(play, fault):
    a, b, c = play("a", "b", "c", faults=(fault,))
    assert b.failure is not None
    assert b.failure in ("cannot start", f"died at {fault}")
    assert b.peak_bytes is None
    for turn in (a, c):
        assert turn.failure is None
        assert {name: len(said) for name, said in turn.rounds.items()} == {"x": 2, "y": 2}
    assert len(b.rounds.get("x", [])) == (1 if fault == "b 4" else 0)
    assert all(remote.closed for remote in play.remotes)


def test_a_line_that_one_runner_cannot_hold_is_said_by_none(play):
    a, b = play("a", "b", faults=("ay skipped",), repeat=1)
    assert play.log == ["ax", "bx", "ay", "ax", "bx"]
    assert a.first["y"].skipped == "too long"
    assert "y" not in b.rounds


def test_a_runner_that_is_skipped_is_not_started(play):
    a, b = play("a", "b", skipped="a")
    assert [remote.name for remote in play.remotes] == ["b"]
    assert (a.failure, a.loaded, a.rounds) == (None, None, {})
    assert len(b.rounds["x"]) == 2


def test_a_real_process_that_aborts_is_named_and_the_others_go_on():
    made = "tests.bench.sessions"
    runners = [
        Runner("hums", "", f"{made}:open_humming"),
        Runner("aborts", "", f"{made}:open_aborting", {"after": 3}),
        Runner("refuses", "", f"{made}:open_refusing"),
    ]
    hums, aborts, refuses = in_turns(runners, LINES, repeat=2, reporter=SILENT, start=start)
    assert "SIGABRT while aborts: saying y" in aborts.failure
    assert "uncaught exception" in aborts.failure
    assert len(aborts.rounds["x"]) == 1
    assert "no such thing" in refuses.failure
    assert hums.failure is None
    assert hums.rounds["y"][1].audio_seconds == 0.1
    # Linux counts pages per processor and adds them up now and then, so a peak may lag a little
    assert hums.peak_bytes + (1 << 20) >= hums.loaded.base_bytes > 10_000_000
