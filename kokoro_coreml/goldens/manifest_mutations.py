"""One mistake each in a manifest, with what the error must say of it."""

from __future__ import annotations

import copy
import dataclasses
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kokoro_coreml.goldens.inputs import seeded
from kokoro_coreml.goldens.manifest_example import DIGEST, example

Path = tuple[str | int, ...]

UNSAFE_PATHS = (
    "",
    "/",
    "/etc/passwd",
    "..",
    ".",
    "../up",
    "a/..",
    "a/../../b",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "C:/a",
    "a\nb",
    "a\x00",
    "..\n",
)

WRONG_DIGESTS = (
    "",
    DIGEST[:-1],
    DIGEST + "0",
    DIGEST.upper(),
    "g" * 64,
    f"{DIGEST}\n",
    f" {DIGEST[1:]}",
    "٠" * 64,
)

PACKAGE: Path = ("packages", 0)
FUNCTION: Path = (*PACKAGE, "functions", 0)
RECORD = {"sha256": DIGEST, "bytes": 1}


@dataclass(frozen=True)
class Mutation:
    """A manifest that must be refused."""

    id: str
    text: str
    said: tuple[str, ...]
    """What the message says."""


def mutations() -> Iterator[Mutation]:
    """Every manifest that must be refused."""
    yield from _missing()
    yield from _unknown()
    yield from _of_another_type()
    yield from _unsafe()
    yield from _out_of_range()
    yield from _contradictory()
    yield from _repeated()


def compact(raw: object) -> str:
    """JSON without white space."""
    return json.dumps(raw, ensure_ascii=False, separators=(",", ":"))


def place(path: Path) -> str:
    """A path as messages name it: `packages[0].file`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.lstrip(".")


def edited(change: Callable[[Any], object], path: Path = ()) -> str:
    """The example after a change to what stands at a path."""
    raw = copy.deepcopy(example().to_dict())
    inner: Any = raw
    for key in path:
        inner = inner[key]
    change(inner)
    return compact(raw)


def replaced(path: Path, value: object) -> str:
    """The example with another value at a path."""
    return edited(lambda inner: inner.__setitem__(path[-1], value), path[:-1])


def _records(value: object, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every dataclass in the example, one of each place in lists."""
    if dataclasses.is_dataclass(value):
        yield path, value
        for field in dataclasses.fields(value):
            yield from _records(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value[-1:], start=len(value) - 1):
            yield from _records(item, (*path, index))
    elif isinstance(value, Mapping) and value:
        key = sorted(value)[-1]
        yield from _records(value[key], (*path, key))


def _missing() -> Iterator[Mutation]:
    for path, record in _records(example()):
        for field in dataclasses.fields(record):
            if field.default is not dataclasses.MISSING:
                continue
            inside = f"table '{place(path)}'" if path else "the top level"
            key = (*path, field.name)
            text = edited(operator.methodcaller("pop", field.name), path)
            said = f"{inside} lacks the key '{field.name}'"
            yield Mutation(f"missing-{place(key)}", text, (said,))


def _unknown() -> Iterator[Mutation]:
    for path, _ in _records(example()):
        inside = f"in table '{place(path)}'" if path else "at the top level"
        yield Mutation(
            f"unknown-{place(path) or 'top'}",
            edited(lambda inner: inner.__setitem__("surplus", None), path),
            (f"unknown key 'surplus' {inside}",),
        )


def _others(value: object) -> Sequence[object]:
    """Values of other types than a field's, also where the field may be null."""
    if value is None or isinstance(value, str):
        return (7, False, ["x"])
    if isinstance(value, int):
        return ("7", 7.5, float(value), True)
    if isinstance(value, float):
        return ("1.0", False, [1.0])
    if isinstance(value, tuple):
        return ({}, "x")
    return ([], "x", 1)


def _of_another_type() -> Iterator[Mutation]:
    rng = seeded("manifests of other types")
    for path, record in _records(example()):
        for field in dataclasses.fields(record):
            if rng.random() < 0.5:  # every other will do
                continue
            wrong = rng.choice(_others(getattr(record, field.name)))
            key = (*path, field.name)
            yield Mutation(f"type-{place(key)}", replaced(key, wrong), (f"'{place(key)}'", "must"))


def _unsafe() -> Iterator[Mutation]:
    for number, path in enumerate(UNSAFE_PATHS):
        yield Mutation(
            f"path-{number:02}",
            replaced(("vocabulary",), path),
            ("'vocabulary'", "a path inside the bundle"),
        )
    for path in UNSAFE_PATHS[1:5]:
        yield Mutation(
            f"listed-path-{UNSAFE_PATHS.index(path):02}",
            replaced(("files", path), RECORD),
            (f"'files.{path}'", "a path inside the bundle"),
        )
    for key in ((*PACKAGE, "file"), ("voices", 0, "file"), ("sample", "file")):
        said = (f"'{place(key)}'", "a path inside the bundle")
        yield Mutation(f"path-in-{place(key)}", replaced(key, "../up"), said)
    for number, digest in enumerate(WRONG_DIGESTS):
        yield Mutation(
            f"digest-{number}",
            replaced(("files", "config.json", "sha256"), digest),
            ("'files.config.json.sha256'", "a SHA-256 of 64"),
        )
    said = ("'checkpoint.files.x'", "a SHA-256 of 64")
    yield Mutation("digest-of-checkpoint", replaced(("checkpoint", "files", "x"), "0" * 63), said)


def _out_of_range() -> Iterator[Mutation]:
    metric: Path = ("parity", "legs", 0, "metrics", "audio_snr_db")
    shape: Path = (*FUNCTION, "inputs", 0, "shape")
    changes: tuple[tuple[Path, object, str], ...] = (
        (("sample_rate",), 0, "at least 1"),
        (("sample_rate",), -24_000, "at least 1"),
        (("samples_per_frame",), 2**31, "at most"),
        (("max_phonemes",), 10**30, "at most"),
        (("max_phonemes",), 510.0, "must be an integer"),
        (("noise", "seed"), -1, "at least 0"),
        (("noise", "seed"), 2**63, "at most"),
        (("files", "config.json", "bytes"), -1, "at least 0"),
        (("files", "config.json", "bytes"), 2**63, "at most"),
        (("voices", 0, "rows"), 0, "at least 1"),
        (shape, [1, 0], "at least 1"),
        (shape, [1, 2**31], "at most"),
        (shape, [1, 2.0], "must be an integer"),
        ((*FUNCTION, "bucket", "frames"), 0, "at least 1"),
        ((*FUNCTION, "bucket", "tokens"), "128", "must be an integer"),
        (("project_version",), "", "at least 1"),
        ((*FUNCTION, "name"), "", "at least 1"),
        (("tools", "torch"), "", "at least 1"),
        (("tools", "torch"), 2.13, "must be a string"),
        (("packages",), [], "at least 1"),
        (("buckets",), [], "at least 1"),
        ((*PACKAGE, "functions"), [], "at least 1"),
        ((*FUNCTION, "inputs"), [], "at least 1"),
        ((*FUNCTION, "outputs"), [], "at least 1"),
        ((*PACKAGE, "compute_units"), "NPU", "must be one of"),
        ((*PACKAGE, "compute_units"), "all", "must be one of"),
        ((*FUNCTION, "inputs", 0, "dtype"), "int64", "must be one of"),
        (("voices", 0, "dtype"), "Float32", "must be one of"),
        (("parity", "verdict"), "ok", "must be one of"),
        (("parity", "legs", 0, "verdict"), "not_run", "must be one of"),
        (("schema_version",), 1.0, "must be one of"),
        (("schema_version",), True, "must be one of"),
        (metric, None, "must be a number"),
        (metric, 10**400, "finite"),
        (("sample", "speed"), "fast", "must be a number"),
        (("sample_rate",), None, "must be an integer"),
        (("vocabulary",), None, "must be a string"),
        (("packages",), None, "must be a list"),
        (("noise",), None, "must be a table"),
    )
    for number, (path, value, said) in enumerate(changes):
        name = place(path)
        at = f"'{name}[1]'" if path == shape else f"'{name}'"
        yield Mutation(f"range-{number:02}-{name}", replaced(path, value), (at, said))
    for version in (0, 2, -1, 10**20):
        said_of = (f"schema version {version}", "reads 1")
        yield Mutation(f"version-{version}", replaced(("schema_version",), version), said_of)


def _contradictory() -> Iterator[Mutation]:
    files: Path = ("files",)
    precomposed, decomposed = "é.json", "e\N{COMBINING ACUTE ACCENT}.json"

    def normal_forms(raw: Any) -> None:
        raw["vocabulary"] = precomposed
        raw["files"][decomposed] = RECORD

    def without(*names: str) -> str:
        return edited(lambda inner: [inner.pop(name) for name in names], files)

    unused = "is used but is not among 'files'"
    bucket = (*FUNCTION, "bucket")
    neither = {"tokens": None, "frames": None}
    for name, text, said in (
        ("own-hash", replaced((*files, "manifest.json"), RECORD), ("cannot hold its own hash",)),
        ("vocabulary", replaced(("vocabulary",), "none.json"), (f"'none.json' {unused}",)),
        ("voice", without("voices/af_heart.bin"), (f"'voices/af_heart.bin' {unused}",)),
        ("sample", without("sample.wav"), (f"'sample.wav' {unused}",)),
        ("normal-forms", edited(normal_forms), (f"'{precomposed}' {unused}",)),
        ("package", without("Tail.mlpackage/Manifest.json"), ("package 'Tail.mlpackage' has no",)),
        ("no-files", replaced(files, {}), ("'config.json'", unused)),
        ("bucket", replaced((*bucket, "frames"), 257), ("None x 257", "not among 'buckets'")),
        ("bucket-axis", replaced((*bucket, "tokens"), 128), ("128 x 256", "not among 'buckets'")),
        ("neither", replaced(("buckets", 0), neither), ("a bucket has neither tokens nor frames",)),
        ("function-neither", replaced(bucket, neither), ("a bucket has neither tokens nor",)),
    ):
        yield Mutation(f"contradiction-{name}", text, said)
    only = edited(lambda raw: raw["files"].update({"Tail.mlpackage2/x": RECORD}))
    raw = json.loads(only)
    del raw["files"]["Tail.mlpackage/Manifest.json"]
    said = ("package 'Tail.mlpackage' has no file",)
    yield Mutation("contradiction-longer-name", compact(raw), said)


def _repeated() -> Iterator[Mutation]:
    def again(inner: Any) -> None:
        inner.append(copy.deepcopy(inner[0]))

    function = "function of Tail.mlpackage 'frames_256'"
    for path, said in (
        (("packages",), "the package 'Tail.mlpackage'"),
        (("voices",), "the voice 'af_heart'"),
        (("parity", "legs"), "the leg 'words'"),
        ((*PACKAGE, "functions"), f"the {function}"),
        ((*FUNCTION, "inputs"), "the tensor of Tail.mlpackage:frames_256 'hidden'"),
        ((*FUNCTION, "outputs"), "the tensor of Tail.mlpackage:frames_256 'audio'"),
    ):
        yield Mutation(f"twice-{place(path)}", edited(again, path), (f"{said} occurs twice",))
    said = "the tensor of Tail.mlpackage:frames_256 'audio' occurs twice"
    yield Mutation(
        "twice-input-and-output", replaced((*FUNCTION, "inputs", 0, "name"), "audio"), (said,)
    )
