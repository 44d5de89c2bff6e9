"""Which rows and buckets come of a request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kokoro_coreml.errors import RecipeError
from kokoro_coreml.recipe import load_recipe
from kokoro_coreml.sizes import SizesRequest
from kokoro_coreml.sizes.errors import SizesError
from kokoro_coreml.sizes.request import COMPRESSIONS, at_one_bucket


@pytest.fixture
def recipe():
    return at_one_bucket(load_recipe("kokoro-82m"), None, None)


@pytest.mark.parametrize(
    ("asked", "names", "limits"),
    [
        (SizesRequest(), ["none", *COMPRESSIONS], {"50MB": 50_000_000}),
        (SizesRequest(compressions=("int8", "none", "int8")), ["none", "int8"], {}),
        (SizesRequest(budgets=("9MB", "9MB")), ["none"], {"9MB": 9_000_000}),
        (SizesRequest(compressions=("exact",), budgets=("9kB",)), ["none", "exact"], {"9kB": 9000}),
    ],
)
def test_the_uncompressed_row_comes_first_and_no_row_twice(recipe, asked, names, limits):
    assert list(asked.uniform(recipe)) == names
    assert asked.limits() == limits


def test_what_is_no_compression_or_budget_is_refused_by_name(recipe):
    with pytest.raises(RecipeError, match="palette of 5 bits is unknown"):
        SizesRequest(compressions=("palette5",)).uniform(recipe)
    with pytest.raises(RecipeError, match="unknown size 'small'"):
        SizesRequest(budgets=("small",)).limits()


@pytest.mark.parametrize(
    ("buckets", "asked", "found"),
    [
        (((32, 64, 128, 256), (128, 512, 1024)), (None, None), (128, 512)),
        (((32, 64), (1024, 2048)), (None, None), (64, 1024)),
        (((64, 192), (256, 768)), (None, None), (64, 256)),
        (((32,), (128,)), (77, 640), (77, 640)),
    ],
)
def test_the_buckets_are_the_nearest_or_those_asked_for(buckets, asked, found):
    recipe = replace(load_recipe("kokoro-82m"), tokens=buckets[0], frames=buckets[1])
    one = at_one_bucket(recipe, *asked)
    assert (one.tokens, one.frames) == tuple((size,) for size in found)
    assert one.compression is None


def test_rows_differ_in_their_compression_alone(recipe):
    rows = SizesRequest(compressions=("palette4/16",)).uniform(recipe)
    assert rows["none"] == recipe
    one = rows["palette4/16"]
    assert one.compression is not None
    assert (one.compression.default, one.compression.weights) == ("palette4/16", {})
    assert replace(one, compression=None) == recipe


def test_what_cannot_be_converted_is_refused():
    with pytest.raises(SizesError, match="cut 'complete'"):
        at_one_bucket(load_recipe("complete"), None, None)
    with pytest.raises(RecipeError, match="multiple of 128, found 100"):
        at_one_bucket(load_recipe("kokoro-82m"), None, 100)
