"""Errors a user can meet, each with the exit code that `kokoro-coreml` documents for it.

Every message says what was wrong, what was expected and what to do next. Anything that is not a
`KokoroError` is a defect of this project and leaves with exit code 1.
"""

from __future__ import annotations

from typing import ClassVar


class KokoroError(Exception):
    """Base of all expected failures."""

    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "unexpected failure"


class RecipeError(KokoroError):
    """A recipe is unknown, unreadable, or holds an unknown key or a value of the wrong type."""

    exit_code = 3
    title = "recipe"


class CheckpointError(KokoroError):
    """A checkpoint is missing, truncated, foreign, or does not match its configuration or hash."""

    exit_code = 4
    title = "checkpoint"


class NetworkError(CheckpointError):
    """A model hub could not be reached."""

    exit_code = 5
    title = "network"


class VoiceError(KokoroError):
    """A voice is unknown, unreadable or of the wrong shape, or a blend cannot be parsed."""

    exit_code = 6
    title = "voice"


class PhonemeError(KokoroError):
    """A phoneme is not in the vocabulary, or the text is empty or longer than the network takes."""

    exit_code = 7
    title = "phonemes"


class ConversionError(KokoroError):
    """Tracing or lowering failed."""

    exit_code = 8
    title = "conversion"


class PackageError(KokoroError):
    """A saved package is corrupt, or holds something the executor cannot or must not run."""

    exit_code = 9
    title = "package"


class ParityError(KokoroError):
    """The saved package was executed and is not equal to PyTorch within its thresholds."""

    exit_code = 10
    title = "parity"


class BundleError(KokoroError):
    """A bundle or WAV file cannot be written (it exists, no permission, disk full) or is wrong."""

    exit_code = 11
    title = "bundle"


class PlacementError(KokoroError):
    """A package holds what its compute units cannot or must not run."""

    exit_code = 12
    title = "placement"
