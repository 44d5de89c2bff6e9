"""What runs elsewhere: the workflow for a Mac, and the script of this project's own CI."""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
import typer
import yaml

from kokoro_coreml.cli import app
from kokoro_coreml.cli.goldens import RANDOM_FOLDER
from kokoro_coreml.recipe import load_recipe

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "mac.yml"
TEXT = WORKFLOW.read_text(encoding="utf-8")
HARNESS = ROOT / "swift_harness" / "Sources" / "KokoroHarnessKit"
UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load(TEXT)


@pytest.fixture(scope="module")
def mac(workflow):
    return workflow["jobs"]["mac"]


def commands(job):
    """Words of every command of a job's steps, its variables put in."""
    found = []
    for step in job["steps"]:
        script = step.get("run", "").replace("\\\n", " ")
        for name, value in job.get("env", {}).items():
            script = script.replace(f"${name}", value)
        for line in re.split(r"\n|;|\|\||\| ", script):
            words = shlex.split(line)
            found += [words] if words else []
    return found


def of(job, program):
    """Arguments of every call of a program."""
    found = []
    for words in commands(job):
        if any(word.endswith(program) for word in words):
            place = next(i for i, word in enumerate(words) if word.endswith(program))
            found.append(words[place + 1 :])
    return found


def test_the_workflow_runs_for_changes_and_when_asked(workflow):
    # YAML 1.1 reads the key `on` as true
    assert workflow[True].keys() == {"push", "pull_request", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}


def test_every_action_is_pinned_to_a_major(workflow):
    uses = [
        step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step
    ]
    assert {use.split("@")[0] for use in uses} == {
        "actions/checkout",
        "actions/setup-python",
        "actions/upload-artifact",
    }
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", use) for use in uses)


def test_every_job_is_bounded_in_time_and_takes_the_python_of_the_project(workflow):
    for job in workflow["jobs"].values():
        assert 30 <= job["timeout-minutes"] <= 360
        setup = next(
            s for s in job["steps"] if s.get("uses", "").startswith("actions/setup-python")
        )
        assert setup["with"]["python-version"] == "3.11"


def test_linux_runs_what_this_projects_ci_runs(workflow):
    linux = workflow["jobs"]["linux"]
    assert linux["runs-on"].startswith("ubuntu-")
    assert commands(linux) == [[".ci/run"]]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert step(linux, "Python and Swift")["env"] == {"KOKORO_SWIFT": "debian"}
    assert "KOKORO_SWIFT" in (ROOT / "swift_harness/linux/run").read_text(encoding="utf-8")


def test_every_command_of_ours_exists_with_its_options(mac):
    click = typer.main.get_command(app)
    asked = of(mac, "kokoro-coreml")
    for name, *arguments in asked:
        known = {option for p in click.commands[name].params for option in p.opts}
        assert {word for word in arguments if word.startswith("-")} <= known, name
    names = ["convert", "goldens", "verify", "verify", "goldens", "verify"]
    assert [name for name, *_ in asked] == names


def test_both_cuts_are_converted_to_where_they_are_looked_for(mac):
    assert ["bundle"] in of(mac, "tasks.py")
    places = {f"artifacts/{load_recipe(name).bundle}" for name in ("complete", "kokoro-82m")}
    assert {mac["env"]["COMPLETE"], mac["env"]["PIPELINE"]} == places
    assert ["convert", "complete", "--force"] in of(mac, "kokoro-coreml")


def test_core_ml_is_judged_on_every_choice_of_compute_units(mac):
    runs = [call for call in of(mac, "kokoro-coreml") if "coreml" in call]
    assert [call[1] for call in runs] == [mac["env"]["PIPELINE"], mac["env"]["COMPLETE"]]
    for call in runs:
        assert (
            tuple(call[i + 1] for i, word in enumerate(call) if word == "--compute-units") == UNITS
        )


def step(job, name):
    (found,) = [step for step in job["steps"] if step.get("name") == name]
    return found


@pytest.mark.parametrize("measured", [UNITS, UNITS[1:3], ()], ids=["all", "two", "none"])
def test_what_the_harness_measured_is_merged_and_nothing_else(mac, tmp_path, measured):
    judge = tmp_path / ".venv" / "bin" / "kokoro-coreml"
    judge.parent.mkdir(parents=True)
    judge.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    judge.chmod(0o755)
    report = tmp_path / mac["env"]["REPORT"]
    report.mkdir(parents=True)
    for units in measured:
        (report / f"harness.{units}.json").touch()
    script = step(mac, "Judge what the harness measured")["run"]
    found = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env=os.environ | mac["env"],
        capture_output=True,
        text=True,
        check=False,
    )
    if not measured:
        assert found.returncode == 1
        assert "wrote no result" in found.stderr
        return
    words = found.stdout.splitlines()
    merged = [words[i + 1] for i, word in enumerate(words) if word == "--merge"]
    assert merged == [f"{mac['env']['REPORT']}/harness.{units}.json" for units in measured]
    assert words[:4] == ["verify", mac["env"]["PIPELINE"], "--recordings", mac["env"]["RECORDINGS"]]


def test_the_harness_runs_on_every_choice_of_compute_units(mac):
    loops = [words for words in commands(mac) if words[:2] == ["for", "units"]]
    assert [tuple(loop[3:]) for loop in loops] == [UNITS, UNITS]


def test_a_failure_of_one_measurement_keeps_no_other_from_being_made(mac):
    """Only what a step works on has to be there."""
    needed = {
        step["name"]: set(re.findall(r"steps\.(\w+)\.", step.get("if", "")))
        for step in mac["steps"]
        if "name" in step
    }
    assert needed["Build the harness"] == set()
    measured = "The harness beside the recordings, a run for each choice of compute units"
    for name in (measured, "Judge what the harness measured"):
        assert needed[name] == {"harness", "goldens"}


def test_the_harness_has_the_commands_and_options_that_are_asked_for(mac):
    calls = of(mac, "kokoro-harness")
    calls = [call for call in calls if call]
    assert [call[0] for call in calls] == ["verify", "bench", "plan"]
    for name, *arguments in calls:
        source = (HARNESS / f"{name.capitalize()}Command.swift").read_text(encoding="utf-8")
        assert f'name: "{name}"' in source
        for option in (word for word in arguments if word.startswith("--")):
            assert f'"{option}"' in source, (name, option)


def test_swift_and_xcode_are_pointed_at_what_is_there(mac):
    for call in of(mac, "swift"):
        if "--package-path" in call:
            folder = call[call.index("--package-path") + 1]
            assert (ROOT / folder / "Package.swift").is_file()
    assert [call[0] for call in of(mac, "swift") if call[0] in ("build", "test")].count("test") == 1
    (build,) = [call for call in of(mac, "xcodebuild") if "-project" in call]
    project = ROOT / build[build.index("-project") + 1]
    assert (project / "project.pbxproj").is_file()
    scheme = build[build.index("-scheme") + 1]
    assert (project / "xcshareddata" / "xcschemes" / f"{scheme}.xcscheme").is_file()
    (copy,) = [words for words in commands(mac) if words[0] == "cp"]
    assert (ROOT / copy[3]).parent.is_dir()
    assert Path(copy[3]).parts[-2:] == ("Models", "kokoro-82m")
    assert "for platform in 'macOS' 'iOS Simulator'" in TEXT


def test_the_report_is_kept_even_if_something_failed(mac):
    upload = mac["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"] == "${{ !cancelled() }}"
    assert f"{mac['env']['REPORT']}/" in upload["with"]["path"].split()


def test_steps_wait_for_the_steps_that_they_name(mac):
    known = set()
    for step in mac["steps"]:
        assert set(re.findall(r"steps\.(\w+)\.", step.get("if", ""))) <= known, step["name"]
        known |= {step["id"]} if "id" in step else set()
    assert known == {"bundle", "goldens", "harness"}


# this project's own CI


@pytest.fixture
def ci(tmp_path):
    """`.ci/run` among stand-ins; returns what runs it with the exit codes of both halves."""
    script = tmp_path / ".ci" / "run"
    script.parent.mkdir()
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())

    def write(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    write(script, script.read_text(encoding="utf-8"))
    write(tmp_path / "bin" / "chromium", "#!/bin/sh\n")

    def prepare(*, python=0, swift=0, goldens=0, swift_seconds=0.0, python_seconds=0.5):
        lines = "print('1 passed in 1.00s', flush=True)"
        write(
            tmp_path / "tasks.py",
            "import os, pathlib, sys, time\n"
            "if sys.argv[1:] == ['setup']:\n"
            "    pathlib.Path('installed').touch()\n"
            "    sys.exit()\n"
            "assert sys.argv[1:] == ['test'] and os.environ['KOKORO_REQUIRE_BROWSER'] == '1'\n"
            "pathlib.Path('python.pid').write_text(str(os.getpid()))\n"
            f"time.sleep({python_seconds})\n{lines}\nsys.exit({python})\n",
        )
        write(
            tmp_path / ".venv" / "bin" / "kokoro-coreml",
            f'#!/bin/sh\ntest -f installed || exit 1\necho "$@" > asked\nexit {goldens}\n',
        )
        write(
            tmp_path / "swift_harness" / "linux" / "run",
            "#!/bin/sh\necho compiling\ntest -f asked || exit 1\nls artifacts/random\n"
            f"sleep {swift_seconds} &\necho $! > swift.pid\nwait $!\n"
            f"echo 3 tests >&2\nexit {swift}\n",
        )
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        given = {"PATH": path, "TMPDIR": str(tmp_path), "KOKORO_GOLDENS_SEED": "77"}
        return [str(script)], os.environ | given

    def run(**given):
        command, environment = prepare(**given)
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    run.prepare = prepare
    return run


@pytest.mark.parametrize("seconds", [(0.0, 0.5), (0.5, 0.0)], ids=["swift first", "python first"])
@pytest.mark.parametrize(("python", "swift", "code"), [(0, 0, 0), (1, 0, 1), (0, 3, 1), (5, 3, 5)])
def test_ci_fails_if_either_half_does(ci, python, swift, code, seconds):
    found = ci(python=python, swift=swift, swift_seconds=seconds[0], python_seconds=seconds[1])
    assert found.returncode == code
    assert "compiling\nrequired\n3 tests\n" in found.stdout
    assert f"swift_harness/linux/run, exit code {swift}" in found.stdout
    assert found.stdout.splitlines()[-1] == "1 passed in 1.00s"
    assert ("the Swift package failed" in found.stderr) == (swift != 0)


def test_ci_gives_swift_fresh_golden_files_and_says_of_which_seed(ci, tmp_path):
    found = ci()
    assert found.returncode == 0
    asked = "goldens --quiet --random 77 --out artifacts/random/goldens"
    assert (tmp_path / "asked").read_text() == f"{asked}\n"
    assert found.stdout.startswith("random golden files: KOKORO_GOLDENS_SEED=77 ")
    assert not (tmp_path / "artifacts" / "random").exists()
    assert ci(swift=3).returncode == 1
    assert (tmp_path / "artifacts" / "random" / "required").is_file()


def test_ci_fails_if_no_golden_files_can_be_drawn(ci):
    found = ci(goldens=4)
    assert found.returncode == 4
    assert "linux/run, exit code" not in found.stdout


def test_golden_files_are_looked_for_where_ci_writes_them():
    assert str(RANDOM_FOLDER) == "artifacts/random/goldens"
    source = ROOT / "swift_harness" / "Tests" / "KokoroGoldensTests" / "GoldenTests.swift"
    text = source.read_text(encoding="utf-8")
    for part in ('appendingPathComponent("random")', '"goldens"', 'exists("required")'):
        assert part in text
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "artifacts/*" in ignored
    assert "!artifacts/random/" not in ignored


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_runs_on_when_ci_is_interrupted(ci, tmp_path, number):
    command, environment = ci.prepare(swift_seconds=300, python_seconds=300)
    files = [tmp_path / "swift.pid", tmp_path / "python.pid"]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    within(60, lambda: all(file.is_file() and file.read_text().strip() for file in files))
    running.send_signal(number)
    assert running.wait(timeout=60) == 128 + number
    within(60, lambda: not any(alive(int(file.read_text())) for file in files))


def within(seconds, done):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process):
    """Also what has ended and was not waited for counts as gone."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
