"""Golden files: their text, their index, and writing them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kokoro_coreml.goldens.cases import (
    SCHEMA,
    Function,
    GoldensError,
    functions,
    random_functions,
)
from kokoro_coreml.goldens.inputs import config
from kokoro_coreml.progress import SILENT, Reporter

INDEX_NAME = "index.json"
VOCABULARY_NAME = "vocabulary.json"
_OTHERS = (INDEX_NAME, VOCABULARY_NAME)


@dataclass(frozen=True)
class Written:
    """What was written."""

    folder: Path
    cases: Mapping[str, int]
    """Number of cases by function."""
    bytes: int
    """Size of all files, the index included."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"folder": str(self.folder), "cases": dict(self.cases), "bytes": self.bytes}


def text_of(function: Function) -> str:
    """A function's file: its header, then one case per line.

    Raises:
        GoldensError: a case does not end as it says.
    """
    tolerance = int(function.tolerance) if function.tolerance == 0 else function.tolerance
    head = {"schema": SCHEMA, "function": function.name, "tolerance": tolerance}
    lines = ",\n".join(_line(entry.to_dict()) for entry in function.cases())
    return f'{_line(head)[:-1]}, "cases": [\n{lines}\n]}}\n'


def vocabulary_text() -> str:
    """The phonemes of the 82 M checkpoint and their ids, as `config.json` has them."""
    return _line(dict(config().vocab)) + "\n"


def index_text(files: Mapping[str, str], *, seed: int | None = None) -> str:
    """The index of files with their texts, and the seed of random ones."""
    entries = {name: _entry(files[name]) for name in sorted(files)}
    head: dict[str, Any] = {"schema": SCHEMA} | ({} if seed is None else {"seed": seed})
    return json.dumps(head | {"files": entries}, indent=2) + "\n"


@dataclass(frozen=True)
class Drawing:
    """Random cases to write instead of the chosen ones."""

    seed: int
    cases: int = 500
    """Of every function that has random cases."""

    def functions(self) -> tuple[Function, ...]:
        """What `random_functions` makes of the two."""
        return random_functions(self.seed, self.cases)


def generate(drawing: Drawing | None = None, *, reporter: Reporter = SILENT) -> dict[str, str]:
    """Every golden file by name, the index last.

    Args:
        drawing: random cases instead of the chosen ones.
        reporter: told of every function.

    Raises:
        GoldensError: a function does not do what a case expects.
    """
    files = {VOCABULARY_NAME: vocabulary_text()}
    for function in functions() if drawing is None else drawing.functions():
        with reporter.step(f"goldens: {function.name}"):
            files[f"{function.name}.json"] = text_of(function)
    seed = None if drawing is None else drawing.seed
    return files | {INDEX_NAME: index_text(files, seed=seed)}


def write_goldens(
    out: Path,
    *,
    drawing: Drawing | None = None,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> Written:
    """Write the golden files of every portable function.

    All are made before the first is written, and the index is written last. Files of an earlier
    index that are none any more are removed; nothing else in the folder is touched.

    Args:
        out: folder; made where it is missing.
        drawing: random cases instead of the chosen ones.
        force: replace earlier golden files.
        reporter: told of every function.

    Raises:
        GoldensError: the folder holds golden files and `force` is not given, holds something else,
            or cannot be written to; or a function does not do what a case expects.
    """
    earlier = earlier_files(out, VOCABULARY_NAME, force=force)
    files = generate(drawing, reporter=reporter)
    store(out, files, earlier)
    texts = {name: text for name, text in files.items() if name not in _OTHERS}
    cases = {name.removesuffix(".json"): text.count("\n") - 2 for name, text in texts.items()}
    return Written(out, cases, sum(len(text.encode("utf-8")) for text in files.values()))


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a folder of golden files.

    Raises:
        GoldensError: there is none, or it is of another schema.
    """
    path = folder / INDEX_NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GoldensError(f"cannot read the index '{path}': {error}") from error
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA or "files" not in raw:
        raise GoldensError(f"'{path}' is not an index of golden files of schema {SCHEMA}")
    return raw


def earlier_files(out: Path, kind: str, *, force: bool) -> set[str]:
    """Names of the files that an index in `out` lists.

    Args:
        out: where files are about to be written.
        kind: a file that every folder of this kind has; there are golden files of functions, and
            recordings.
        force: whether earlier files may be replaced.

    Raises:
        GoldensError: there are some and `force` is not given, or `out` holds something else.
    """
    if not out.exists():
        return set()
    if not out.is_dir():
        raise GoldensError(f"'{out}' is a file; expected a folder, or nothing, in its place")
    if not any(out.iterdir()):
        return set()
    if not (out / INDEX_NAME).is_file():
        raise GoldensError(
            f"'{out}' is not empty and holds no golden files, so nothing is written there; "
            "choose another place"
        )
    names = {Path(name).name for name in read_index(out)["files"]}
    if kind not in names:
        raise GoldensError(
            f"'{out}' holds golden files of another kind (its index has no {kind}), which are "
            "never replaced; choose another place"
        )
    if not force:
        raise GoldensError(f"'{out}' holds golden files already; use --force to replace them")
    return names


def store(out: Path, files: Mapping[str, str], earlier: Collection[str]) -> None:
    """Write files, each whole or not at all, in their order, and remove those of `earlier` that
    are not among them.

    Raises:
        GoldensError: the folder cannot be made or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            _replace(out / name, text)
        for name in set(earlier) - files.keys():
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise GoldensError(f"cannot write '{out}': {reason}; choose another place") from error


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _entry(text: str) -> dict[str, Any]:
    data = text.encode("utf-8")
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
