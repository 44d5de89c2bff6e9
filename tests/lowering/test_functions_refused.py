"""What cannot be merged is refused by name, and nothing is left behind."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import coremltools as ct
import pytest
from coremltools.converters.mil import Builder as mb

from kokoro_coreml.errors import ConversionError, PackageError
from kokoro_coreml.lowering import functions
from kokoro_coreml.lowering.functions import merge_functions
from tests.lowering.merging import (
    DATE,
    MODEL,
    WEIGHTS,
    change,
    merged,
    require_equal_execution,
    save,
    snapshot,
)


@pytest.mark.parametrize("name", ["", "two words", "2x", "a-b", "ä", "a\n", "a@b"])
def test_a_name_must_be_an_identifier(name: str, packages: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="function names"):
        merged({name: packages["plain"]}, tmp_path)


@pytest.mark.parametrize("given", [{}, {"plain": "plain"}])
def test_the_default_must_be_among_the_names(
    given: dict[str, str], packages: dict[str, Path], tmp_path: Path
) -> None:
    chosen = {name: packages[source] for name, source in given.items()}
    with pytest.raises(ConversionError, match="default function 'other' is not among"):
        merge_functions(chosen, tmp_path / "out.mlpackage", default="other")
    assert not list(tmp_path.iterdir())


def test_a_package_for_ios_17_is_refused(packages: dict[str, Path], tmp_path: Path) -> None:
    old = save(
        lambda x: mb.relu(x=x, name="y"), 2, tmp_path / "old.mlpackage", target=ct.target.iOS17
    )
    with pytest.raises(ConversionError, match=r"old.mlpackage: specification version 8 .* iOS 18"):
        merged({**packages, "old": old}, tmp_path)
    raised = change(old, tmp_path / "raised.mlpackage", lambda m: set_version(m, 9))
    with pytest.raises(ConversionError, match=r"raised.mlpackage: opset CoreML7"):
        merged({**packages, "old": raised}, tmp_path)


def set_version(changed: Any, version: int) -> None:
    changed.specificationVersion = version


def test_a_package_of_several_functions_is_refused(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    several = merged(packages, tmp_path)
    with pytest.raises(ConversionError, match="expected one function, 'main'"):
        merge_functions({"one": several}, tmp_path / "out.mlpackage", default="one")


def rename_main(changed: Any) -> None:
    every = changed.mlProgram.functions
    every["other"].CopyFrom(every["main"])
    del every["main"]


def describe_functions(changed: Any) -> None:
    changed.description.functions.add(name="main")


@pytest.mark.parametrize("edit", [rename_main, describe_functions])
def test_a_function_of_another_name_or_description_is_refused(
    edit: Callable[[Any], None], packages: dict[str, Path], tmp_path: Path
) -> None:
    other = change(packages["plain"], tmp_path / "other.mlpackage", edit)
    with pytest.raises(ConversionError, match=r"other.mlpackage: expected one function, 'main'"):
        merged({"one": other}, tmp_path)


CONTRADICTIONS: dict[str, Callable[[Any], None]] = {
    "author": lambda m: setattr(m.description.metadata, "author", "another"),
    "license": lambda m: setattr(m.description.metadata, "license", "another"),
    "version": lambda m: setattr(m.description.metadata, "versionString", "2"),
    "program version": lambda m: setattr(m.mlProgram, "version", 2),
    "metadata 'key'": lambda m: m.description.metadata.userDefined.update({"key": "1"}),
    "metadata 'com.github.apple.coremltools.version'": lambda m: (
        m.description.metadata.userDefined.pop("com.github.apple.coremltools.version")
    ),
    "program attribute 'buildInfo'": lambda m: m.mlProgram.attributes.clear(),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradicting_metadata_are_refused(
    what: str, packages: dict[str, Path], tmp_path: Path
) -> None:
    other = change(packages["plain"], tmp_path / "other.mlpackage", CONTRADICTIONS[what])
    with pytest.raises(ConversionError, match=rf"other.mlpackage cannot .* it has {what} "):
        merged({"one": packages["rows_2"], "two": other}, tmp_path)


@pytest.mark.parametrize(
    ("field", "edit"),
    [
        ("isUpdatable", lambda m: setattr(m, "isUpdatable", True)),
        ("trainingInput", lambda m: m.description.trainingInput.add(name="x")),
        ("defaultFunctionName", lambda m: setattr(m.description, "defaultFunctionName", "main")),
    ],
)
def test_what_cannot_be_kept_is_refused(
    field: str, edit: Callable[[Any], None], packages: dict[str, Path], tmp_path: Path
) -> None:
    other = change(packages["plain"], tmp_path / "other.mlpackage", edit)
    with pytest.raises(ConversionError, match=rf"other.mlpackage: \['{field}'\] cannot be kept"):
        merged({"one": other}, tmp_path)


def test_days_and_descriptions_may_differ(packages: dict[str, Path], tmp_path: Path) -> None:
    def edit(changed: Any) -> None:
        changed.description.metadata.userDefined[DATE] = "2001-01-01"

    other = change(packages["plain"], tmp_path / "other.mlpackage", edit)
    merged({"one": packages["rows_2"], "two": other}, tmp_path)


def test_an_existing_package_is_not_touched(packages: dict[str, Path], tmp_path: Path) -> None:
    out = merged(packages, tmp_path)
    before = snapshot(out)
    with pytest.raises(ConversionError, match=r"expected the name of a new .mlpackage"):
        merged(packages, tmp_path)
    assert snapshot(out) == before


def test_a_folder_that_cannot_be_written_is_a_conversion_error(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConversionError, match=r"out.mlpackage: cannot be written"):
        merge_functions(packages, tmp_path / "file" / "out.mlpackage", default="plain")


def test_a_program_the_executor_would_refuse_to_read_is_not_written(
    packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "MAX_MODEL_BYTES", 100)
    with pytest.raises(ConversionError, match="more than 100; merge fewer"):
        merged(packages, tmp_path)
    assert not list(tmp_path.iterdir())


def damaged(path: Path, rng: random.Random) -> None:
    file = path / rng.choice([MODEL, WEIGHTS, Path("Manifest.json")])
    raw = bytearray(file.read_bytes())
    if rng.random() < 0.3:
        del raw[rng.randrange(len(raw)) :]
    else:
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(min(len(raw), 4096))  # where structure is, not mere numbers
            raw[place] ^= 1 << rng.randrange(8)
    file.write_bytes(raw)


class RefusedError(Exception):
    pass


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Turn an error that may meet a user and names `name` into `RefusedError`; others pass."""
    try:
        yield
    except (PackageError, ConversionError) as error:
        if name not in str(error):
            raise
        raise RefusedError from error


def test_damaged_packages_are_refused_by_name_or_merged_whole(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    refused = 0
    for seed in range(120):
        folder = tmp_path / str(seed)
        folder.mkdir()
        bad = shutil.copytree(packages["rows_5"], folder / "bad.mlpackage")
        damaged(bad, random.Random(seed))
        out = None
        with suppress(RefusedError), naming("bad.mlpackage"):
            out = merged({"good": packages["rows_2"], "bad": bad}, folder)
        if out is None:
            assert [p.name for p in folder.iterdir()] == ["bad.mlpackage"]
            refused += 1
        else:
            require_equal_execution({"good": packages["rows_2"]}, out)
        shutil.rmtree(folder)
    assert 30 < refused < 120


def reversed_offsets(changed: Any) -> None:
    values = list(functions._values_in_files(changed.mlProgram))
    values[0].blobFileValue.offset = values[1].blobFileValue.offset


def elsewhere(changed: Any) -> None:
    next(functions._values_in_files(changed.mlProgram)).blobFileValue.fileName = "/etc/passwd"


def of_strings(changed: Any) -> None:
    next(functions._values_in_files(changed.mlProgram)).type.tensorType.dataType = 2


def of_open_shape(changed: Any) -> None:
    value = next(functions._values_in_files(changed.mlProgram))
    value.type.tensorType.dimensions[0].unknown.variadic = False


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (reversed_offsets, "bytes stored"),
        (elsewhere, "'/etc/passwd' found"),
        (of_strings, "not as a tensor"),
        (of_open_shape, "not as a tensor"),
    ],
)
def test_a_weight_that_is_not_what_is_declared_is_refused(
    edit: Callable[[Any], None], message: str, packages: dict[str, Path], tmp_path: Path
) -> None:
    other = change(packages["rows_2"], tmp_path / "other.mlpackage", edit)
    with pytest.raises(PackageError, match=rf"other.mlpackage: .*{message}"):
        merged({"one": other}, tmp_path)


def test_missing_weights_are_named(without_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"copy.mlpackage.*weight.bin: cannot be read"):
        merged({"one": without_weights}, tmp_path)


def test_a_model_in_another_place_is_refused(packages: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(packages["plain"], tmp_path / "copy.mlpackage")
    (copy / "Data" / "other").mkdir()
    shutil.move(copy / MODEL, copy / "Data" / "other" / "model.mlmodel")
    manifest = (copy / "Manifest.json").read_text()
    (copy / "Manifest.json").write_text(
        manifest.replace("com.apple.CoreML/model.mlmodel", "other/model.mlmodel")
    )
    with pytest.raises(ConversionError, match=r"the model is at 'other/model.mlmodel'"):
        merged({"one": copy}, tmp_path)
