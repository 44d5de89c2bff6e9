"""`sizes.json`: its schema, reading back, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

from kokoro_coreml.resources import data_file
from kokoro_coreml.sizes import load_sizes, sizes_schema
from kokoro_coreml.sizes.errors import SizesError
from tests.sizes.reports import report


def test_the_schema_file_is_the_one_generated_from_the_classes():
    stored = data_file("sizes.schema.json").read_text(encoding="utf-8")
    assert stored == json.dumps(sizes_schema(), indent=2, ensure_ascii=False) + "\n"
    jsonschema.Draft202012Validator.check_schema(json.loads(stored))


def test_a_report_is_read_back_as_it_was_and_fits_its_schema(tmp_path):
    path = tmp_path / "sizes.json"
    path.write_text(report().to_json(), encoding="utf-8")
    assert load_sizes(path) == report()
    jsonschema.validate(json.loads(report().to_json()), sizes_schema())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "cannot read the table of sizes"),
        ('{"schema_version": 2}', "sizes schema 2, but this version reads 1"),
        ('{"schema_version": 1}', "lacks the key"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, content, message):
    path = tmp_path / "sizes.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SizesError, match=message):
        load_sizes(path)


def test_a_report_that_could_not_be_read_again_is_not_written():
    with pytest.raises(SizesError, match="'tokens'"):
        replace(report(), tokens=0).to_json()
