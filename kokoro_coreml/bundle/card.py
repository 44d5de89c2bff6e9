"""The model card: a bundle's README.md, with the front matter that Hugging Face reads."""

from __future__ import annotations

import re

from jinja2 import Environment, StrictUndefined

from kokoro_coreml.manifest import Manifest
from kokoro_coreml.resources import data_file

TEMPLATE = "model_card.md.j2"

LANGUAGES = {
    "a": "en",
    "b": "en",
    "e": "es",
    "f": "fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt",
    "z": "zh",
}
"""First letter of an upstream voice name (`kokoro.pipeline.LANG_CODES`) to ISO 639-1."""


def render_card(manifest: Manifest) -> str:
    """Markdown of the model card; a function of the manifest without its `files`."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string(data_file(TEMPLATE).read_text(encoding="utf-8"))
    seconds_per_frame = manifest.samples_per_frame / manifest.sample_rate
    return template.render(
        m=manifest,
        base_model=base_model(manifest),
        license=_license_tag(manifest.checkpoint.license),
        languages=languages([voice.name for voice in manifest.voices]),
        seconds=lambda frames: f"{frames * seconds_per_frame:.1f} s",
        code=_code,
    )


def languages(voices: list[str]) -> list[str]:
    """ISO 639-1 codes of upstream voice names such as `af_heart`; others say nothing."""
    known = [v for v in voices if re.match(r"[a-z][fm]_", v)]
    return sorted({LANGUAGES[v[0]] for v in known if v[0] in LANGUAGES})


def base_model(manifest: Manifest) -> str | None:
    """Hub id the weights come from; None where they are a file of the user's own."""
    checkpoint = manifest.checkpoint
    if checkpoint.source == "hub":
        return checkpoint.location
    if checkpoint.source == "packaged":
        pinned = manifest.recipe.content.get("checkpoint", {})
        return pinned.get("source") if isinstance(pinned, dict) else None
    return None


def _license_tag(spdx: str) -> str:
    return "unknown" if spdx == "unknown" else spdx.lower()


def _code(value: object) -> str:
    """A table cell in code style; a bar would end the cell."""
    return f"`{value}`".replace("|", "\\|")
