"""JSON files of one record each, with a version and a schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from kokoro_coreml.errors import KokoroError
from kokoro_coreml.tables import decode, encode, json_schema

T = TypeVar("T")


@dataclass(frozen=True)
class Document(Generic[T]):
    """A kind of file.

    Attributes:
        record: dataclass of its content, with the field `schema_version`.
        name: of the file, for messages.
        noun: what it is, in a sentence.
        title: of its schema.
        version: that this code reads and writes.
        error: raised for a file that is not as it should be.
    """

    record: type[T]
    name: str
    noun: str
    title: str
    version: int
    error: type[KokoroError]

    def text(self, content: T) -> str:
        """What to write, after it was seen to be readable again; raises `error` if it is not."""
        raw = encode(content)
        decode(self.record, raw, document=self.name, error=self.error)
        return json.dumps(raw, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def load(self, path: Path) -> T:
        """Read a file; raises `error` if it is unreadable, no JSON, or of another schema."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise self.error(f"cannot read the {self.noun} '{path}': {error}") from error
        found = raw.get("schema_version") if isinstance(raw, dict) else None
        if type(found) is int and found != self.version:
            raise self.error(
                f"{path.name}: {self.noun} schema {found}, but this version reads {self.version}"
            )
        return decode(self.record, raw, document=path.name, error=self.error)

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        header = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"kokoro-coreml {self.title}, schema version {self.version}",
        }
        return header | json_schema(self.record)
