"""The generator over rows in float32 against itself over one axis in float64; packaged weights.

    python -m tests.benchmarks.seams [--buckets 256:180,512:512] [--core 32] [--halos 8,8]

A slow sentence of the suite `full`, cut to so many frames of a bucket, or said again if it is
shorter. Prints docs/pipeline.md's table: SNR in dB of the whole, of its ends, of the worst seam
(20 columns at each side), and of what is further than eight positions from any.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.checkpoint import Checkpoint, load_checkpoint
from kokoro_coreml.config import F0_PER_FRAME
from kokoro_coreml.modules.complete import KokoroCompleteCoreML
from kokoro_coreml.modules.folded.geometry import CORE, Folding
from kokoro_coreml.modules.folded.halos import foldings, halos
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.generator import GeneratorMasks
from kokoro_coreml.modules.masks import Valid
from kokoro_coreml.modules.pipeline import (
    DecoderStage,
    DurationStage,
    EncoderStage,
    PipelineNetwork,
    ProsodyStage,
    SourceStage,
)
from kokoro_coreml.noise import gaussian
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.suite import load_suite
from kokoro_coreml.threads import fixed_threads
from kokoro_coreml.vocabulary import Vocabulary, pad
from kokoro_coreml.voices import load_voice
from tests.support.folded import GeneratorPair, in_time, rows_of

CASE, SPEED = "en-512-tokens", 0.7
TOKENS, FRAMES = 512, 2048
EDGE = 20
BUCKETS = "256:180,256:256,512:512,1024:1024,2048:2048"


@dataclass(frozen=True)
class Speech:
    """What the generator reads, without padding."""

    features: Tensor
    har: Tensor
    style: Tensor

    def cut(self, frames: int, per_position: int) -> tuple[Tensor, Tensor]:
        """The first frames, said again where they are not enough."""
        positions = F0_PER_FRAME * frames
        times = -(-positions // self.features.shape[2])
        features = self.features.repeat(1, 1, times)[..., :positions]
        har = torch.cat([self.har[..., :1], self.har[..., 1:].repeat(1, 1, times)], dim=2)
        return features, har[..., : positions * per_position + 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buckets", default=BUCKETS, help="bucket:frames, ...")
    parser.add_argument("--core", type=int, default=CORE, help="positions in a row")
    parser.add_argument("--halos", help="other halos than the network's")
    given = parser.parse_args()
    with fixed_threads(), torch.inference_mode():
        checkpoint = load_checkpoint("packaged")
        network = PipelineNetwork(checkpoint)
        own = (
            [int(h) for h in given.halos.split(",")]
            if given.halos
            else halos(network.config.istftnet)
        )
        speech = _speech(network)
        print("| bucket | frames | whole | first 20 columns | last 20 | worst seam | elsewhere |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for size in given.buckets.split(","):
            bucket, frames = (int(n) for n in size.split(":"))
            rows = [Folding(F0_PER_FRAME * bucket // given.core, h, given.core) for h in own]
            figures = _compare(_pair(checkpoint, network, rows, frames), speech, frames)
            print(f"| {bucket} | {frames} | " + " | ".join(f"{f:.1f} dB" for f in figures) + " |")


def _speech(network: PipelineNetwork) -> Speech:
    case = next(c for c in load_suite("full").cases if c.id == CASE)
    ids = Vocabulary.from_config(network.config).encode(case.phonemes)
    input_ids, mask = (torch.from_numpy(v) for v in pad(tuple(ids), TOKENS))
    row = torch.from_numpy(np.asarray(load_voice(case.voice).row(len(case.phonemes)))).view(1, -1)
    shape = (1, 1, 1, TOKENS)
    (encoded,) = EncoderStage(network)(input_ids.float().view(shape), mask.float().view(shape))
    t = DurationStage(network, TOKENS)(encoded, input_ids, mask, row, torch.tensor([SPEED]))
    a = ProsodyStage(network, FRAMES)(t.d, t.text, t.pred_dur, row)
    (features,) = DecoderStage(network, FRAMES)(
        a.asr, a.curves, a.levels, a.frame_mask, t.decoder_scale, t.decoder_shift
    )
    samples = network.config.samples_per_frame
    noise = torch.from_numpy(gaussian(0, FRAMES * samples)).view(1, F0_PER_FRAME * FRAMES, -1)
    count = t.pred_dur.sum(dim=1).to(torch.int32)
    har = SourceStage(network, FRAMES)(a.f0, count, torch.zeros(1, 9), noise)[0]
    net, positions = network.config.istftnet, F0_PER_FRAME * int(count)
    (first, *_, last), rate = foldings(FRAMES, net), widths(net.upsample_rates)[-1]
    return Speech(
        in_time(features, first, 1)[..., :positions],
        in_time(har, last, rate, 1)[..., : positions * rate + 1],
        row[:, : network.config.style_dim],
    )


def _pair(
    checkpoint: Checkpoint, network: PipelineNetwork, rows: Sequence[Folding], frames: int
) -> GeneratorPair:
    whole = KokoroCompleteCoreML(checkpoint, 32, 1, torch.zeros(1, 600, 9)).decoder.generator
    whole.frames, net = frames, network.config.istftnet
    return GeneratorPair(net, frames, whole, network.generator, network.generator_styles, rows)


def _compare(pair: GeneratorPair, speech: Speech, frames: int) -> list[float]:
    """SNR of the whole, its beginning, its end, its worst seam, and of what is far from any."""
    (first, *_), rate = pair.foldings, widths(pair.config.upsample_rates)[-1]
    features, har = speech.cut(frames, rate)
    expected = _over_one_axis(pair, features, har, speech.style, frames).numpy()
    missing, columns = first.rows * first.core - features.shape[2], expected.shape[2]
    found = pair.over_rows(
        F.pad(features, (0, missing)),
        F.pad(har, (0, missing * rate)),
        speech.style,
        rows_of(pair.foldings, pair.config.upsample_rates, frames),
    )[..., :columns].numpy()

    def snr(part: slice | np.ndarray) -> float:
        return snr_db(reference=expected[..., part], candidate=found[..., part])

    seams = range(first.core * rate + 1, columns, first.core * rate)
    elsewhere = np.ones(columns, dtype=bool)
    for seam in seams:
        elsewhere[seam - 8 * rate : seam + 8 * rate] = False
    worst = min((snr(slice(s - EDGE, s + EDGE)) for s in seams), default=float("nan"))
    ends = [snr(slice(0, EDGE)), snr(slice(columns - EDGE, columns))]
    return [snr(slice(None)), *ends, worst, snr(elsewhere)]


def _over_one_axis(
    pair: GeneratorPair, features: Tensor, har: Tensor, style: Tensor, frames: int
) -> Tensor:
    """In float64, because one axis sums up more at once than rows and would be the less exact."""

    def double(masks: GeneratorMasks) -> GeneratorMasks:
        valid = [Valid(*(t.double() for t in v)) for v in (masks.frames, *masks.stages)]
        return masks._replace(frames=valid[0], stages=valid[1:])

    pair.whole.double()
    masks = double(pair.masks(frames))
    with mock.patch.object(pair, "masks", return_value=masks):
        return pair.over_one_axis(features.double(), har.double(), style.double(), frames)


if __name__ == "__main__":
    main()
