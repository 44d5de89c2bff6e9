"""Convert Kokoro text-to-speech checkpoints to Core ML, and prove the saved package."""

import time

__version__ = "0.1.0"

IMPORTED = time.time()
"""When this package was first imported, in seconds since 1970; its other files are read later."""
