"""The weights behind a bundle."""

from __future__ import annotations

from kokoro_coreml.checkpoint import Checkpoint, load_checkpoint
from kokoro_coreml.errors import ParityError
from kokoro_coreml.manifest import CheckpointRecord
from kokoro_coreml.progress import Reporter


def weights_of(record: CheckpointRecord, spec: str | None, reporter: Reporter) -> Checkpoint:
    """Load the weights a bundle was made from, and no others.

    Args:
        record: what the manifest says of them.
        spec: where they are (see `load_checkpoint`), if not where the manifest says.
        reporter: told of every step.

    Raises:
        ParityError: they are other weights, or the manifest does not say where they are.
        CheckpointError: they cannot be had.
    """
    if spec is None and record.source not in ("hub", "packaged"):
        raise ParityError(
            f"the bundle was made from '{record.location}' ({record.source}); say where it is with "
            "--checkpoint"
        )
    with reporter.step(f"checkpoint {spec or record.location}"):
        if spec is not None:
            weights = load_checkpoint(spec, reporter=reporter)
        elif record.source == "packaged":
            weights = load_checkpoint("packaged", reporter=reporter)
        else:
            weights = load_checkpoint(
                record.location,
                revision=record.revision,
                sha256=dict(record.files),
                reporter=reporter,
            )
    found, expected = dict(weights.provenance.files), dict(record.files)
    if found != expected:
        raise ParityError(
            "these are not the weights the bundle was made from: "
            f"found {_digests(found)}, the manifest says {_digests(expected)}"
        )
    return weights


def _digests(files: dict[str, str]) -> str:
    return ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(files.items())) or "none"
