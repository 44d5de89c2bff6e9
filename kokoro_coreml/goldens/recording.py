"""Recording what every package of a bundle takes and gives while something is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kokoro_coreml.goldens.cases import SCHEMA, GoldensError
from kokoro_coreml.goldens.tensors import tensor
from kokoro_coreml.manifest import Manifest, TensorRecord
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
        "durations",
    }
)
"""What an app gives or reads itself. Not `noise`, which `noise.gaussian` gives again; and not the
speech's samples, which are those of `audio`, one part behind the other."""


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
    # Three things mattered to him — bread, bees and bicycles — and he had lost two.
    Phrase(
        "fast",
        "θɹˈi θˈɪŋz mˈæTəɹd tə hˌɪm — bɹˈɛd, bˈiz ænd bˈIsəkəlz — ænd hi hæd lˈɔst tˈu.",
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
        self._functions = {
            (package.file, function.name): (package.stage, function)
            for package in manifest.packages
            for function in package.functions
        }
        self._largest = largest
        self._runs: list[dict[str, Any]] = []

    def ran(self, package: str, function: str, inputs: Arrays, outputs: Arrays) -> None:
        """Keep the run; raises `GoldensError` for values that are not of their declared type."""
        stage, record = self._functions[package, function]
        self._runs.append(
            {
                "package": package,
                "stage": stage,
                "function": function,
                "inputs": [self._declared(port, inputs[port.name]) for port in record.inputs],
                "outputs": [self._declared(port, outputs[port.name]) for port in record.outputs],
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

    def tensor(self, name: str, values: np.ndarray) -> dict[str, Any]:
        """An array, whole unless it is a large one that no app gives or reads itself."""
        small = self._largest is None or values.nbytes <= self._largest
        return tensor(name, values, whole=small or name in ALWAYS_WHOLE)

    def _declared(self, port: TensorRecord, values: np.ndarray) -> dict[str, Any]:
        """The executor computes half precision in float32, rounded: its bits are those of both."""
        own = values.astype(port.dtype)
        same = np.array_equal(own.astype(values.dtype), values, equal_nan=values.dtype.kind == "f")
        if values.shape != port.shape or not same:
            raise GoldensError(
                f"'{port.name}' is not what the manifest declares: {port.dtype}{list(port.shape)}"
            )
        return self.tensor(port.name, own)


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
        "speech": _speech(speech, recorder),
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


def _speech(speech: Speech, recorder: Recorder) -> dict[str, Any]:
    durations = np.concatenate([part.spoken.durations for part in speech.parts])
    return {
        "samples": recorder.tensor("samples", speech.audio),
        "durations": recorder.tensor("durations", durations),
        "timestamps": [[t.phoneme, t.start, t.end] for t in speech.timestamps],
        "parts": [len(part.spoken.audio) for part in speech.parts],
    }


def _lines(values: Sequence[Any]) -> str:
    return ",\n".join(_line(value) for value in values)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
