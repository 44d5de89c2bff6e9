"""What can go wrong between a package and Core ML."""

from __future__ import annotations

from typing import ClassVar

from kokoro_coreml.errors import PackageError


class CoreMLError(PackageError):
    """Core ML refused a package, a prediction or a plan, or gave something undeclared."""

    title: ClassVar[str] = "Core ML"


class CoreMLUnavailableError(CoreMLError):
    """There is no Core ML here, or it is older than what was asked of it: nothing was run."""


class CoreMLCrashError(CoreMLError):
    """Core ML ended the process it ran in."""


class CoreMLTimeoutError(CoreMLError):
    """Core ML did not answer in time; its process was killed."""
