"""Convert Kokoro text-to-speech checkpoints to Core ML, and prove the saved package."""

__version__ = "0.1.0"
