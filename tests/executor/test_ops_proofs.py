"""Nothing in the operator table is unproven, no claim can be false, and the docs say so."""

import re
from pathlib import Path
from types import SimpleNamespace

import conftest
import coremltools.converters.mil.frontend.torch as frontend
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from mil_packages import floats, run, run_torch
from operator_docs import PAGE, page, since
from proofs import FROM_TORCH, NUMPY, collect, proves, unproven, watched
from torch import nn

from kokoro_coreml.executor import OPS, REFUSED
from kokoro_coreml.executor.documentation import Proof, render

NOT_FROM_TORCH = {
    "cond": "a trace has no branches",
    "gru": "stands in a comment only; torch's GRU becomes a loop",
    "list_gather": "for lists in scripted code",
    "list_length": "for lists in scripted code",
    "list_write": "for lists in scripted code",
    "non_maximum_suppression": "for torchvision's nms",
    "softsign": "torch traces its softsign as abs, add and div",
}
"""Operations in the source of coremltools' torch converter that no torch function is traced to."""


def written_by_the_torch_converter():
    folder = Path(frontend.__file__).parent
    source = "".join(p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.py")))
    return set(re.findall(r"\bmb\.(\w+)\b", source)) & set(OPS)


def test_every_operation_is_proven_from_a_package_of_the_mil_builder():
    proven = {proof.op for proof in collect() if proof.source != FROM_TORCH}
    assert set(OPS) - proven == set()


def test_every_operation_torch_leads_to_is_proven_from_torch():
    proven = {proof.op for proof in collect() if proof.source == FROM_TORCH}
    assert written_by_the_torch_converter() - proven == set(NOT_FROM_TORCH)


def test_claims_name_operations_of_the_table_and_say_what_they_cover():
    for proof in collect():
        assert proof.op in OPS
        assert proof.over
        assert proof.against


def claim(*ops, source="MIL builder"):
    return proves(*ops, against=NUMPY, over="a claim", source=source).mark


def test_claim_about_an_operation_that_did_not_run_is_found():
    with watched() as executed:
        run(lambda x: mb.relu(x=x), floats(2, 3))
    assert unproven([claim("relu")], executed) == []
    assert unproven([claim("relu", "exp")], executed) == ["exp (from MIL builder)"]
    assert unproven([claim("relu", source=FROM_TORCH)], executed) == ["relu (from torch)"]


def test_operation_that_fails_is_not_run():
    with watched() as executed, pytest.raises(Exception, match="do not fit"):
        run(
            lambda x, i: mb.gather(x=x, indices=i, axis=0),
            floats(2),
            np.array([9], np.int32),
        )
    assert ("gather", "MIL builder") not in executed


def test_source_is_told_apart_and_the_table_is_left_as_it_was():
    before = dict(OPS)
    with watched() as executed:
        run_torch(nn.ReLU(), floats(2, 3))
    assert executed == {("relu", FROM_TORCH)}
    assert before == OPS
    assert all(OPS[name].function is before[name].function for name in OPS)


@pytest.mark.parametrize(("name", "fails"), [("relu", False), ("exp", True)])
def test_hook_fails_a_test_with_a_false_claim(name, fails):
    hook = conftest.pytest_runtest_call(SimpleNamespace(iter_markers=lambda _: [claim(name)]))
    next(hook)
    run(lambda x: mb.relu(x=x), floats(2, 3))
    with pytest.raises(pytest.fail.Exception if fails else StopIteration) as caught:
        hook.send(None)
    assert not fails or "exp (from MIL builder)" in str(caught.value)


def test_committed_page_is_the_generated_one():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/executor/operator_docs.py"


def test_page_has_every_operation_every_default_and_every_reason():
    text = page()
    rows = {m[1]: m[0] for m in re.finditer(r"^\| `(\w+)` \|.*$", text, re.M)}
    assert set(rows) == set(OPS) | set(REFUSED)
    for name, definition in OPS.items():
        cells = re.split(r"(?<!\\)\|", rows[name])
        assert len(cells) == 7
        assert all(cell.strip() for cell in (*cells[3:6],)), name
        assert "against" in cells[5], name
        for parameter in definition.parameters.values():
            assert re.search(rf"\*?\b{parameter.name}\b", cells[3]), (name, parameter.name)
    assert all(reason in rows[name] for name, reason in REFUSED.items())
    assert "`alpha=0.0001, beta=0.75" in text.replace("x, size, ", "`")
    assert '`gelu` | 15 | `x, mode="EXACT"`' in text


def test_page_follows_the_proofs():
    without = render([], since())
    with_one = render([Proof("relu", "MIL builder", "a stone", "x|y")], since())
    assert "a stone" not in without
    assert "MIL builder, against a stone: x\\|y" in with_one
