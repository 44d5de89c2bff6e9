"""The files of a bundle: their hashes, and the check that they are still what was written."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from kokoro_coreml.bundle.card import render_card
from kokoro_coreml.errors import BundleError
from kokoro_coreml.manifest import MANIFEST_NAME, FileRecord, Manifest, read_manifest
from kokoro_coreml.resources import license_file, notice_file

CARD_NAME = "README.md"

IGNORED = (".DS_Store",)
"""Left by the Finder in any folder it shows; not part of a bundle."""


def hash_files(folder: Path) -> dict[str, FileRecord]:
    """SHA-256 and size of every file under `folder` but the manifest.

    Returns:
        Relative path with forward slashes to its record, sorted by path.

    Raises:
        BundleError: something under it is neither a file nor a folder, such as a symbolic link.
    """
    found: dict[str, FileRecord] = {}
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BundleError(f"'{path}' is not a plain file; a bundle holds only files")
        if path.is_file() and name != MANIFEST_NAME and path.name not in IGNORED:
            found[name] = FileRecord(sha256_of(path), path.stat().st_size)
    return found


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in lower-case hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Finish a bundle: write the model card, LICENSE, NOTICE, and last the manifest.

    Args:
        folder: the bundle's folder with everything else already in it.
        manifest: its `files` are ignored and filled in here.

    Returns:
        The manifest as it was written.

    Raises:
        BundleError: the manifest and the folder contradict one another.
    """
    (folder / CARD_NAME).write_text(render_card(manifest), encoding="utf-8")
    shutil.copyfile(license_file(), folder / "LICENSE")
    shutil.copyfile(notice_file(), folder / "NOTICE")
    whole = dataclasses.replace(manifest, files=hash_files(folder))
    (folder / MANIFEST_NAME).write_text(whole.to_json(), encoding="utf-8")
    return whole


def verify_files(bundle: Path) -> Manifest:
    """Read the manifest of a bundle and compare every file with it.

    Raises:
        BundleError: the manifest is missing or wrong, or files are missing, changed or extra; all
            of them are named.
    """
    manifest = read_manifest(bundle)
    found = hash_files(bundle)
    problems = _differences(manifest.files, found)
    if problems:
        raise BundleError(
            f"'{bundle}' is not what was written: {'; '.join(problems)}. Convert it again"
        )
    return manifest


def _differences(listed: Mapping[str, FileRecord], found: Mapping[str, FileRecord]) -> list[str]:
    groups = {
        "missing": sorted(listed.keys() - found.keys()),
        "changed": sorted(p for p in listed.keys() & found.keys() if listed[p] != found[p]),
        "extra": sorted(found.keys() - listed.keys()),
    }
    return [f"{kind}: {', '.join(paths)}" for kind, paths in groups.items() if paths]
