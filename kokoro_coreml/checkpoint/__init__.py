"""Weights of the Kokoro architecture from wherever they are, checked and in one form."""

from kokoro_coreml.checkpoint.files import write_pth
from kokoro_coreml.checkpoint.load import load_checkpoint
from kokoro_coreml.checkpoint.types import PARTS, Checkpoint, Provenance

__all__ = ["PARTS", "Checkpoint", "Provenance", "load_checkpoint", "write_pth"]
