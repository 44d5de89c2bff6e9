"""Recording what every package of a bundle takes and gives while something is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kokoro_coreml.goldens.cases import SCHEMA
from kokoro_coreml.goldens.tensors import tensor
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.synthesis import Observer, Part, Speech, Synthesizer
from kokoro_coreml.synthesis.observing import Arrays

ALWAYS_WHOLE = frozenset(
    {
        "input_ids",
        "attention_mask",
        "ref_s",
        "speed",
        "random_phases",
        "frames",
        "pred_dur",
        "audio",
        "audio_length_samples",
    }
)
"""What an app gives or reads itself, but for `noise`, which `noise.gaussian` gives again."""


@dataclass(frozen=True)
class Phrase:
    """One thing to say and record."""

    id: str
    """Name of its file."""
    phonemes: str
    speed: float = 1.0


DEFAULT_PHRASES = (
    # Thank you so much.
    Phrase("short", "θˈæŋk ju sˌO mˈʌʧ."),
    # She says six thin thistles still stick in Susie's socks.
    Phrase("halves", "ʃˌi sˈɛz sˈɪks θˈɪn θˈɪsᵊlz stˈɪl stˈɪk ɪn sˈuziz sˈɑks."),
    # Well... I suppose; that is, if nobody minds: we could simply stay here.
    Phrase(
        "fast",
        "wˈɛl... ˌI səpˈOz; ðˈæt ɪz, ɪf nˈObˌɑdi mˈIndz: wi kʊd sˈɪmpli stˈA hˈɪɹ.",
        speed=1.6,
    ),
)
"""Sentences of the suites. With buckets of 32 and 64 tokens and 128 frames the speech of `halves`
fits none, so that it is said in halves, and the text of `fast` is split before it is said."""


class Recorder(Observer):
    """Keeps the runs of one utterance, part by part."""

    def __init__(self, manifest: Manifest, *, largest: int | None = None) -> None:
        """Begin.

        Args:
            manifest: of the bundle.
            largest: bytes of an array that is kept whole; None keeps all whole.
        """
        self.parts: list[dict[str, Any]] = []
        self._stages = {package.file: package.stage for package in manifest.packages}
        self._largest = largest
        self._runs: list[dict[str, Any]] = []

    def ran(self, package: str, function: str, inputs: Arrays, outputs: Arrays) -> None:
        """Keep the run; raises `GoldensError` for a type that no recording holds."""
        self._runs.append(
            {
                "package": package,
                "stage": self._stages[package],
                "function": function,
                "inputs": [self._tensor(*item) for item in inputs.items()],
                "outputs": [self._tensor(*item) for item in outputs.items()],
            }
        )

    def said(self, part: Part) -> None:
        """Close a part."""
        self.parts.append(
            {
                "phonemes": part.phonemes,
                "tokens": part.bucket.tokens,
                "frames": part.bucket.frames,
                "runs": self._runs,
            }
        )
        self._runs = []

    def _tensor(self, name: str, values: np.ndarray) -> dict[str, Any]:
        small = self._largest is None or values.nbytes <= self._largest
        return tensor(name, values, whole=small or name in ALWAYS_WHOLE)


class Switch(Observer):
    """Passes on to the observer of the moment."""

    def __init__(self) -> None:
        self.to = Observer()

    def ran(self, package: str, function: str, inputs: Arrays, outputs: Arrays) -> None:
        """Pass on."""
        self.to.ran(package, function, inputs, outputs)

    def said(self, part: Part) -> None:
        """Pass on."""
        self.to.said(part)


def recording(
    phrase: Phrase,
    synthesizer: Synthesizer,
    switch: Switch,
    *,
    voice: str | None,
    largest: int | None,
) -> dict[str, Any]:
    """Say a phrase and keep everything; the fields stand in `docs/goldens.md`.

    Args:
        phrase: what to say.
        synthesizer: whose observer is `switch`.
        switch: is turned to a recorder of this phrase.
        voice: one of the bundle's; None is its first.
        largest: bytes of an array that is kept whole; None keeps all whole.

    Raises:
        KokoroError: as `Synthesizer.say` does.
    """
    manifest = synthesizer.manifest
    recorder = switch.to = Recorder(manifest, largest=largest)
    speech = synthesizer.say(phrase.phonemes, voice=voice, speed=phrase.speed)
    return {
        "schema": SCHEMA,
        "id": phrase.id,
        "cut": cut_of(manifest),
        "phonemes": phrase.phonemes,
        "voice": speech.voice,
        "speed": speech.speed,
        "noise_seed": manifest.noise.seed,
        "parts": recorder.parts,
        "speech": _speech(speech),
    }


def cut_of(manifest: Manifest) -> str:
    """The cut that a synthesizer speaks with: the pipeline where the bundle has one."""
    return "pipeline" if any(p.cut == "pipeline" for p in manifest.packages) else "complete"


def text_of(record: dict[str, Any]) -> str:
    """The file of a recording, a run per line."""
    parts = ",\n".join(
        f'{_line({k: v for k, v in part.items() if k != "runs"})[:-1]}, "runs": [\n'
        f"{_lines(part['runs'])}\n]}}"
        for part in record["parts"]
    )
    head = {k: v for k, v in record.items() if k not in ("parts", "speech")}
    speech = _line(record["speech"])
    return f'{_line(head)[:-1]}, "parts": [\n{parts}\n], "speech": {speech}}}\n'


def _speech(speech: Speech) -> dict[str, Any]:
    durations = np.concatenate([part.spoken.durations for part in speech.parts])
    return {
        "samples": tensor("samples", speech.audio, whole=True),
        "durations": tensor("durations", durations, whole=True),
        "timestamps": [[t.phoneme, t.start, t.end] for t in speech.timestamps],
        "parts": [len(part.spoken.audio) for part in speech.parts],
    }


def _lines(values: Sequence[Any]) -> str:
    return ",\n".join(_line(value) for value in values)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
