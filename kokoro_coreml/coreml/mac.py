"""Whether Core ML can be asked here: the system, its version, and coremltools' native half.

Sources of the versions: Apple's availability notes of `MLComputePlan`; the specification versions
in coremltools' `__init__.py`. Functions and states need no check of their own (macOS 15): packages
that have them are of specification 9 or later.
"""

from __future__ import annotations

import importlib
import platform
import subprocess
from typing import Any

from kokoro_coreml.coreml.errors import CoreMLError, CoreMLUnavailableError

Version = tuple[int, ...]

COMPUTE_UNITS = ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
"""Names of `coremltools.ComputeUnit`, as a manifest has them."""

MINIMUM_MACOS: Version = (14, 0)
PLAN_MACOS: Version = (14, 4)
"""`MLComputePlan`."""

NATIVE_MODULE = "coremltools.libcoremlpython"
"""coremltools' binding to Core ML; only its macOS wheels hold it."""

_MACOS_OF_SPECIFICATION: dict[int, Version] = {
    6: (12, 0),
    7: (13, 0),
    8: (14, 0),
    9: (15, 0),
    10: (26, 0),
}
"""First macOS that reads each version of the model specification (6 is iOS 15, 10 is iOS 26)."""


def require_mac(option: str = "--runtime") -> Version:
    """Check that this is a Mac new enough to be asked; imports nothing heavy.

    Args:
        option: of the command line that chose Core ML, for the message.

    Returns:
        The version of macOS.

    Raises:
        CoreMLUnavailableError: it is another system, or macOS before 14.
    """
    system = platform.system()
    if system != "Darwin":
        raise CoreMLUnavailableError(
            f"{option} coreml needs macOS {_text(MINIMUM_MACOS)} or later (this is "
            f"{system or 'an unknown system'}); use {option} executor, which runs the saved "
            "package anywhere, or run this command on a Mac"
        )
    version = macos_version()
    require_macos(MINIMUM_MACOS, f"{option} coreml")
    return version


def require_bridge() -> None:
    """Check that coremltools can call Core ML.

    Raises:
        CoreMLUnavailableError: its native half is missing or cannot be loaded.
    """
    try:
        importlib.import_module(NATIVE_MODULE)
    except ImportError as error:
        raise CoreMLUnavailableError(
            f"coremltools cannot call Core ML: {NATIVE_MODULE} cannot be loaded ({error}); install "
            "coremltools from its macOS wheel (pip install --force-reinstall --only-binary=:all: "
            "coremltools) for this Python and this processor"
        ) from error


def require_macos(minimum: Version, what: str) -> None:
    """Raises CoreMLUnavailableError, naming both versions, if macOS is older than `minimum`."""
    found = macos_version()
    if found < minimum:
        raise CoreMLUnavailableError(
            f"{what} needs macOS {_text(minimum)} or later, but this Mac has {_text(found)}"
        )


def require_specification(version: int, package: str) -> None:
    """Check that this macOS reads a package.

    Args:
        version: `specificationVersion` of its model.
        package: its name, for the message.

    Raises:
        CoreMLUnavailableError: macOS is too old for it; both versions are named.
        CoreMLError: the version is unknown here.
    """
    known = _MACOS_OF_SPECIFICATION
    if version > max(known):
        raise CoreMLError(
            f"{package} has model specification version {version}, but versions up to "
            f"{max(known)} are known here; update kokoro-coreml and coremltools"
        )
    require_macos(known.get(version, MINIMUM_MACOS), f"{package} (specification {version})")


def require_units(name: str) -> str:
    """`name`, if it is one of `COMPUTE_UNITS`; CoreMLError if not."""
    if name not in COMPUTE_UNITS:
        raise CoreMLError(f"unknown compute units {name!r}; known: {', '.join(COMPUTE_UNITS)}")
    return name


def compute_unit(name: str) -> Any:
    """The `coremltools.ComputeUnit` of this name."""
    import coremltools as ct

    return ct.ComputeUnit[require_units(name)]


def macos_version() -> Version:
    """Version of macOS, such as (15, 3, 1).

    Raises:
        CoreMLUnavailableError: the system does not tell.
    """
    text = platform.mac_ver()[0]
    parts = text.split(".")
    if not all(part.isdecimal() for part in parts):
        raise CoreMLUnavailableError(f"the version of macOS is unknown (the system says {text!r})")
    return tuple(int(part) for part in parts)


def processor() -> str:
    """Name of the processor, such as `Apple M4`, or its kind where no name is known."""
    try:
        answer = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return platform.machine()
    return answer.stdout.strip() or platform.machine()


def version_text() -> str:
    """Version of macOS as a person writes it."""
    return _text(macos_version())


def _text(version: Version) -> str:
    return ".".join(str(part) for part in version).removesuffix(".0")
