"""A bundle: the folder an app ships, written whole or not at all.

`staged` gives a folder to fill, `normalise_package` makes packages the same bytes every time,
`seal` adds the model card, licence and manifest, and `verify_files` checks a bundle afterwards.
"""

from kokoro_coreml.bundle.card import render_card
from kokoro_coreml.bundle.files import hash_files, seal, sha256_of, verify_files
from kokoro_coreml.bundle.packages import normalise_package
from kokoro_coreml.bundle.staging import DEFAULT_NEED_BYTES, is_bundle, staged

__all__ = [
    "DEFAULT_NEED_BYTES",
    "hash_files",
    "is_bundle",
    "normalise_package",
    "render_card",
    "seal",
    "sha256_of",
    "staged",
    "verify_files",
]
