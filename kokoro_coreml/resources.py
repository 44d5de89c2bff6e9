"""Finds the data that lives outside the modules.

In a checkout `convert/`, `patches/`, `tests/suites/`, LICENSE and NOTICE are the folders and files
themselves; in a wheel they travel as package data (`force-include` in pyproject.toml).
"""

from __future__ import annotations

from pathlib import Path

from kokoro_coreml.errors import KokoroError
from kokoro_coreml.tables import nearest

_PACKAGE = Path(__file__).resolve().parent
_DATA = _PACKAGE / "data"


def recipes_folder() -> Path:
    """Folder of the recipes, `convert/*.toml`."""
    return _shared("convert")


def patches_folder() -> Path:
    """Folder of the ledger of corrections, `patches/*.toml`."""
    return _shared("patches")


def suites_folder() -> Path:
    """Folder of the parity suites, `tests/suites/*.toml`, and of their `voices/`."""
    return _shared("suites", checkout="tests/suites")


def license_file() -> Path:
    """The project's licence, Apache-2.0."""
    return _shared("LICENSE")


def notice_file() -> Path:
    """Attributions that travel with every bundle."""
    return _shared("NOTICE")


def data_file(name: str) -> Path:
    """A file of the package's own `data/` folder, the same in a checkout and in a wheel.

    Raises:
        FileNotFoundError: the installation lacks the file.
    """
    return _existing(_DATA / name)


def locate(name_or_path: str | Path, *, folder: Path, what: str, error: type[KokoroError]) -> Path:
    """Find a TOML file by name, or by path (anything with a slash or ending in `.toml`).

    Args:
        name_or_path: what the user gave.
        folder: of the named ones.
        what: the kind of document, for messages.
        error: raised when there is none; names the nearest known one.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".toml"):
        path = Path(text)
        if not path.is_file():
            raise error(f"no {what} at '{text}'; expected the path of a TOML file")
        return path
    names = sorted(path.stem for path in folder.glob("*.toml"))
    if text not in names:
        hint = nearest(text, names)
        known = "" if hint.startswith("known") else f" known: {', '.join(names)}"
        raise error(f"unknown {what} '{text}'; {hint}{known}")
    return folder / f"{text}.toml"


def _shared(name: str, *, checkout: str | None = None) -> Path:
    packaged = _DATA / name
    return packaged if packaged.exists() else _existing(_PACKAGE.parent / (checkout or name))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(
            f"this installation of kokoro-coreml lacks '{path.name}'; install it again"
        )
    return path
