"""Different inputs never have equal keys; equal ones always do."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml import fingerprint
from kokoro_coreml.conversion.building import SHAPED_BY
from kokoro_coreml.fingerprint import (
    encode,
    source_digest,
    source_files,
    stage_key,
    tensors_digest,
    tool_versions,
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(allow_nan=False)
    | st.text("ab\x00ü", max_size=3)
    | st.binary(max_size=3)
)
PARTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab\x00", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def exact(part: Any) -> Any:
    """`part` with its types beside its values, so that == is identity of content."""
    if isinstance(part, dict):
        return "map", sorted((key, exact(value)) for key, value in part.items())
    if isinstance(part, list | tuple):
        return "list", [exact(value) for value in part]
    return type(part).__name__, repr(part)


@given(PARTS, PARTS)
def test_two_parts_encode_alike_only_if_they_are_the_same(one: Any, other: Any) -> None:
    assert (encode(one) == encode(other)) == (exact(one) == exact(other))


def decode(raw: bytes) -> tuple[Any, bytes]:
    """What an encoding stands for, and what follows it."""
    kind, size = raw[:1], int.from_bytes(raw[1:9], "little")
    content, rest = raw[9 : 9 + size], raw[9 + size :]
    if kind in b"ml":
        items = []
        while content:
            item, content = decode(content)
            items.append(item)
        return (dict(zip(items[::2], items[1::2], strict=True)) if kind == b"m" else items), rest
    scalar: dict[bytes, Callable[[bytes], Any]] = {
        b"n": lambda _: None,
        b"b": lambda c: c != b"\x00",
        b"i": int,
        b"f": lambda c: float(np.frombuffer(c, "<f8")[0]),
        b"s": lambda c: c.decode("utf-8", "surrogatepass"),
        b"y": lambda c: c,
    }
    return scalar[kind](content), rest


@given(PARTS)
def test_an_encoding_can_be_read_back(part: Any) -> None:
    """So it is unambiguous: no two parts can share one."""
    found, rest = decode(encode(part))
    assert exact(found) == exact(part)
    assert rest == b""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "bc"}, {"ab": "c"}),
        ({"a": {"b": 1}}, {"a": ["b", 1]}),
        ({"a": ["b", "c"]}, {"a": ["bc"]}),
        ({"a": [["b"], "c"]}, {"a": ["b", ["c"]]}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": True}),
        ({"a": 0.0}, {"a": -0.0}),
        ({"a": None}, {}),
        ({"a": b"b"}, {"a": "b"}),
        ({"a": {}}, {"a": []}),
        ({"a": "\ud800"}, {"a": "\ud801"}),
    ],
)
def test_likely_confusions_have_different_keys(one: Any, other: Any) -> None:
    assert stage_key(one) != stage_key(other)


def test_order_of_names_and_kind_of_sequence_do_not_matter() -> None:
    assert stage_key({"a": [1, 2], "b": 2}) == stage_key({"b": 2, "a": (1, 2)})


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({"a": {"b": [object()]}}, r"'a', 'b', \[0\]: object has no encoding"),
        ({"a": np.int64(1)}, "'a': int64 has no encoding"),
        ({"a": {1, 2}}, "'a': set has no encoding"),
        ({"a": {1: 2}}, "'a': the name 1 is not a string"),
    ],
)
def test_what_has_no_encoding_is_named(part: Any, where: str) -> None:
    with pytest.raises(TypeError, match=where):
        stage_key(part)


def test_tools_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = tool_versions()
    assert versions["torch"] == torch.__version__
    assert versions["protobuf"]  # only coremltools requires it
    assert tool_versions(["no-such-tool"])["no-such-tool"] is None
    before = stage_key({})
    monkeypatch.setattr(fingerprint, "tool_versions", lambda: {**versions, "torch": "0"})
    assert stage_key({}) != before
    monkeypatch.undo()
    monkeypatch.setattr(fingerprint, "SCHEMA", fingerprint.SCHEMA + 1)
    assert stage_key({}) != before


BASE = {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.zeros(())}
CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "one value": lambda s: s["a"].view(-1)[5:].add_(1e-6),
    "sign of zero": lambda s: s["b"].fill_(-0.0),
    "the first name": lambda s: s.update(c=s.pop("a")),
    "the last name": lambda s: s.update(c=s.pop("b")),
    "two names": lambda s: s.update(a=s["b"], b=s["a"]),
    "a shape": lambda s: s.update(a=s["a"].reshape(3, 2)),
    "a rank": lambda s: s.update(b=s["b"].reshape(1)),
    "a type": lambda s: s.update(b=s["b"].to(torch.int32)),
    "one less": lambda s: s.pop("b"),
    "an empty one more": lambda s: s.update(c=torch.empty(0)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_weights_that_differ_have_another_digest(what: str) -> None:
    state = {name: tensor.clone() for name, tensor in BASE.items()}
    assert tensors_digest(state) == tensors_digest(BASE)
    CHANGES[what](state)
    assert tensors_digest(state) != tensors_digest(BASE)


def test_order_and_strides_of_weights_do_not_matter() -> None:
    turned = {"b": BASE["b"], "a": BASE["a"].t().contiguous().t()}
    assert not turned["a"].is_contiguous()
    assert tensors_digest(turned) == tensors_digest(BASE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.complex64])
def test_weights_of_every_type_have_a_digest(dtype: torch.dtype) -> None:
    one, other = torch.zeros(3, dtype=dtype), torch.zeros(3, dtype=dtype)
    other[2] = 1
    assert tensors_digest({"w": one}) != tensors_digest({"w": other})
    conjugate = torch.ones(3, dtype=torch.complex64) * 1j
    assert tensors_digest({"w": conjugate.conj()}) != tensors_digest({"w": conjugate})


def test_sparse_weights_are_refused() -> None:
    with pytest.raises(TypeError, match="'w' is not a dense tensor"):
        tensors_digest({"w": torch.eye(2).to_sparse()})


TREE = {
    "__init__.py": "",
    "rooms/__init__.py": "",
    "rooms/first.py": "from scratch.tools import hammer",
    "rooms/deep/second.py": "import scratch.steps.one as one\nimport os, numpy",
    "tools/__init__.py": "from .nails import nail",
    "tools/hammer.py": "X = 1",
    "tools/nails.py": "def nail():\n    from ..lazy import thing\n    return thing",
    "tools/unused.py": "X = 1",
    "steps/one.py": "from . import two",
    "steps/two.py": "from ..far import *",
    "far.py": "import scratch.rooms.first",
    "lazy.py": "thing = 1",
    "other.py": "import scratch.rooms.first",
}
REACHED = {
    "scratch",
    "scratch.rooms",
    "scratch.rooms.first",
    "scratch.rooms.deep.second",
    "scratch.tools",
    "scratch.tools.hammer",
    "scratch.tools.nails",
    "scratch.lazy",
    "scratch.steps.one",
    "scratch.steps.two",
    "scratch.far",
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose room `rooms` reaches all of it but `tools.unused` and `other`."""
    for name, text in TREE.items():
        path = tmp_path / "scratch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "scratch"


def test_imports_are_followed_as_far_as_they_stay_in_the_package(tree: Path) -> None:
    found = source_files("scratch.rooms")
    assert set(found) == REACHED
    assert found["scratch.tools"] == tree / "tools" / "__init__.py"


def test_a_module_alone_brings_what_it_imports_and_the_packages_around_it(tree: Path) -> None:
    assert set(source_files("scratch.steps.two")) == {
        *("scratch", "scratch.steps.two", "scratch.far", "scratch.rooms", "scratch.rooms.first"),
        *("scratch.tools", "scratch.tools.hammer", "scratch.tools.nails", "scratch.lazy"),
    }


@pytest.mark.parametrize("name", sorted(TREE))
def test_the_digest_changes_with_every_file_that_is_reached_and_no_other(
    name: str, tree: Path
) -> None:
    before = source_digest("scratch.rooms")
    path = tree / name
    path.write_text(path.read_text() + "\nX = 2")
    reached = ".".join(("scratch", *Path(name).with_suffix("").parts)).removesuffix(".__init__")
    assert (source_digest("scratch.rooms") != before) == (reached in REACHED)


def test_a_file_that_appears_or_moves_changes_the_digest(tree: Path) -> None:
    before = source_digest("scratch.rooms")
    (tree / "rooms" / "new.py").write_text("")
    assert (between := source_digest("scratch.rooms")) != before
    (tree / "rooms" / "new.py").rename(tree / "rooms" / "newer.py")
    assert source_digest("scratch.rooms") not in (before, between)


def test_several_roots_and_modules_themselves_are_taken(tree: Path) -> None:
    both = source_files("scratch.other", fingerprint)
    assert {"scratch.other", "scratch.rooms.first", "kokoro_coreml.fingerprint"} <= set(both)
    assert source_digest("scratch.other", "scratch.far") == source_digest(
        "scratch.far", "scratch.other"
    )


@pytest.mark.parametrize("name", ["scratch.missing", "no_such_package.at_all"])
def test_a_root_that_is_not_there_is_named(name: str, tree: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=name.partition(".")[0]):
        source_files(name)


def test_the_digest_is_that_of_names_and_bytes(tree: Path) -> None:
    expected = {"scratch": b"", "scratch.lazy": b"thing = 1"}
    assert source_digest("scratch.lazy") == hashlib.sha256(encode(expected)).hexdigest()


def test_the_rooms_of_this_project_reach_what_they_build_on() -> None:
    found = set(source_files("kokoro_coreml.modules", "kokoro_coreml.stages"))
    assert {"kokoro_coreml.modules.norm", "kokoro_coreml.noise", "kokoro_coreml.recipe"} <= found
    assert not {name for name in found if name.startswith("kokoro_coreml.parity")}


def test_all_that_shapes_a_stage_is_part_of_its_key() -> None:
    found = set(source_files(*SHAPED_BY))
    wanted = ("modules.pipeline", "modules.masks", "modules.folded.generator", "stages.pipeline")
    wanted += ("lowering.lower", "lowering.corrections", "lowering.shapes_only")
    wanted += tuple(f"compression.{name}" for name in ("exact", "kmeans", "naming", "quantise"))
    assert not {f"kokoro_coreml.{name}" for name in wanted} - found
