"""The decoder by channels and ALBERT by channels equal the modules they rewrite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.config import F0_PER_FRAME
from kokoro_coreml.modules.complete import KokoroCompleteCoreML
from kokoro_coreml.modules.folded import decoder as folded_decoder
from kokoro_coreml.modules.folded.blocks import AdainResBlk
from kokoro_coreml.modules.folded.curves import Curves, CurvesPerFrame
from kokoro_coreml.modules.folded.norm import Rows, Styles
from kokoro_coreml.modules.folded.upsample import DoublingPool
from kokoro_coreml.modules.masks import valid_prefix
from kokoro_coreml.modules.pipeline import EncoderStage, PipelineNetwork
from kokoro_coreml.noise import source_noise
from tests.modules.conftest import EXACT_DB, snr

FRAMES, TOKENS = 128, 24


@pytest.fixture(scope="module")
def network(tiny: Checkpoint) -> PipelineNetwork:
    return PipelineNetwork(tiny)


@pytest.fixture(scope="module")
def whole(tiny: Checkpoint) -> KokoroCompleteCoreML:
    samples = tiny.config.samples_per_frame * FRAMES
    return KokoroCompleteCoreML(tiny, TOKENS, FRAMES, source_noise(0, samples))


def _inputs(frames: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Aligned text, F0, energy, and a style; 0 where padded."""
    torch.manual_seed(1)
    asr, f0 = torch.randn(1, 512, FRAMES), 140 + 30 * torch.randn(1, 2 * FRAMES)
    energy, style = torch.randn(1, 2 * FRAMES), torch.randn(1, 128)
    asr[:, :, frames:], f0[:, 2 * frames :], energy[:, 2 * frames :] = 0, 0, 0
    return asr, f0, energy, style


def _expected(whole: KokoroCompleteCoreML, frames: int) -> Tensor:
    asr, f0, energy, style = _inputs(frames)
    count = torch.full((1, 1, 1), float(frames))
    positions = valid_prefix(count * F0_PER_FRAME, FRAMES * F0_PER_FRAME)
    return whole.decoder.features(asr, f0, energy, style, valid_prefix(count, FRAMES), positions)


def _found(network: PipelineNetwork, frames: int, mask: Tensor | None = None) -> Tensor:
    asr, f0, energy, style = _inputs(frames)
    if mask is None:
        mask = (torch.arange(FRAMES) < frames).float().view(1, 1, 1, FRAMES)
    count = torch.full((1, 1, 1), float(frames))
    curves = network.curves(f0, energy, valid_prefix(count, FRAMES))
    styles = network.decoder_styles(style)
    found: Tensor = network.decoder(asr.unsqueeze(2), curves, mask, styles)
    return found.squeeze(2)


@pytest.mark.parametrize("frames", [1, 3, 57, 127, 128])
def test_decoder_equals_its_rewrite_at_every_fill(
    network: PipelineNetwork, whole: KokoroCompleteCoreML, frames: int
) -> None:
    """From 3 frames, the shortest text's; of 2 with nearly equal values AdaIN makes -1 and 1."""
    expected, found = _expected(whole, frames), _found(network, frames)
    assert snr(expected, found) >= EXACT_DB
    assert torch.all(found[:, :, 2 * frames :] == 0)


Forward = Callable[..., Tensor]


def _blind_blocks(forward: Forward, which: str) -> Forward:
    def unmasked(
        self: AdainResBlk, x: Tensor, styles: Styles, at: Rows, out: Rows, missing: Tensor
    ) -> Tensor:
        if which in {"at", "both"} or at is out:
            at = at._replace(valid=torch.ones_like(at.valid))
        if which in {"out", "both"}:
            out = out._replace(valid=torch.ones_like(out.valid))
        return forward(self, x, styles, at, out, missing)

    return unmasked


@pytest.mark.parametrize("which", ["at", "out"])
def test_decoder_blocks_need_their_masks(
    network: PipelineNetwork,
    whole: KokoroCompleteCoreML,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
) -> None:
    monkeypatch.setattr(AdainResBlk, "forward", _blind_blocks(AdainResBlk.forward, which))
    expected, found = _expected(whole, 57), _found(network, 57)
    assert snr(expected[..., : 2 * 57], found[..., : 2 * 57]) < EXACT_DB - 10


def test_decoder_needs_the_pools_mask(
    network: PipelineNetwork, whole: KokoroCompleteCoreML, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unmaskable(Tensor):
        """A tensor that one mask does not change."""

        def __mul__(self, _mask: object) -> Tensor:
            return self.as_subclass(Tensor)

    forward = DoublingPool.forward
    monkeypatch.setattr(
        DoublingPool, "forward", lambda self, x: forward(self, x).as_subclass(Unmaskable)
    )
    expected, found = _expected(whole, 57), _found(network, 57)
    assert snr(expected[..., : 2 * 57], found[..., : 2 * 57]) < EXACT_DB - 10


@pytest.mark.parametrize("change", [-1, 1])
def test_decoder_needs_exactly_the_frame_mask(
    network: PipelineNetwork, whole: KokoroCompleteCoreML, change: int
) -> None:
    mask = (torch.arange(FRAMES) < 57 + change).float().view(1, 1, 1, FRAMES)
    expected, found = _expected(whole, 57), _found(network, 57, mask)
    assert snr(expected[..., : 2 * 57], found[..., : 2 * 57]) < EXACT_DB - 10


def test_decoder_statistics_are_over_the_valid_frames(
    network: PipelineNetwork, whole: KokoroCompleteCoreML, monkeypatch: pytest.MonkeyPatch
) -> None:
    def everywhere(valid: Tensor, _own: Tensor, _share: Tensor) -> Rows:
        return Rows(valid, torch.ones_like(valid), torch.ones(1, 1, 1, 1))

    monkeypatch.setattr(folded_decoder, "Rows", everywhere)
    expected, found = _expected(whole, 57), _found(network, 57)
    assert snr(expected[..., : 2 * 57], found[..., : 2 * 57]) < EXACT_DB - 10


# F0 and energy


@pytest.mark.parametrize("frames", [1, 57, 128])
def test_curves_are_split_into_means_and_what_deviates_from_them(
    network: PipelineNetwork, frames: int
) -> None:
    _, f0, energy, _ = _inputs(frames)
    valid = valid_prefix(torch.full((1, 1, 1), float(frames)), FRAMES)
    deviations, levels = network.curves(f0, energy, valid)
    assert deviations.shape == (1, 2, 1, FRAMES)
    assert levels.shape == (1, 2, 1, 1)
    assert torch.all(deviations[..., frames:] == 0)
    assert float(deviations.mean(dim=3).abs().max()) < 1e-3 * float(f0.abs().max())
    convs = (network.curves.F0_conv, network.curves.N_conv)
    whole = torch.cat([c(x.unsqueeze(1)) for c, x in zip(convs, (f0, energy), strict=True)], dim=1)
    again = (deviations + levels).squeeze(2)
    assert snr(whole[..., :frames], again[..., :frames]) >= EXACT_DB


def test_half_precision_holds_a_small_deviation_from_a_large_pitch(
    network: PipelineNetwork, whole: KokoroCompleteCoreML, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounded as the ports are, a monotone voice of 300 Hz keeps its melody."""
    asr, f0, energy, style = _inputs(100)
    f0 = torch.where(f0 > 0, 300 + 0.02 * (f0 - 140), 0.0)
    monkeypatch.setitem(globals(), "_inputs", lambda _: (asr, f0, energy, style))
    expected = _expected(whole, 100)
    split = CurvesPerFrame.forward

    def rounded(self: CurvesPerFrame, *given: Any) -> Curves:
        return Curves(*(x.half().float() for x in split(self, *given)))

    monkeypatch.setattr(CurvesPerFrame, "forward", rounded)
    fine = snr(expected, _found(network, 100))

    def unsplit(self: CurvesPerFrame, *given: Any) -> Curves:
        deviations, levels = split(self, *given)
        mask = given[2].mask.unsqueeze(2)
        return Curves(((deviations + levels * mask).half()).float(), torch.zeros_like(levels))

    monkeypatch.setattr(CurvesPerFrame, "forward", unsplit)
    coarse = snr(expected, _found(network, 100))
    assert fine > coarse + 12


def test_the_shortcut_needs_the_means(
    network: PipelineNetwork, whole: KokoroCompleteCoreML, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = CurvesPerFrame.forward

    def without(self: CurvesPerFrame, *given: Any) -> Curves:
        deviations, levels = split(self, *given)
        return Curves(deviations, torch.zeros_like(levels))

    monkeypatch.setattr(CurvesPerFrame, "forward", without)
    assert snr(_expected(whole, 57), _found(network, 57)) < EXACT_DB - 10


# ALBERT


def _ids(used: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    mask = (torch.arange(TOKENS) < used).int().view(1, TOKENS)
    return torch.randint(1, 178, (1, TOKENS)).int() * mask, mask


def _encoded(network: PipelineNetwork, ids: Tensor, mask: Tensor) -> Tensor:
    """[1, hidden_dim, T]."""
    shape = (1, 1, 1, TOKENS)
    (found,) = EncoderStage(network)(ids.float().view(shape), mask.float().view(shape))
    assert isinstance(found, Tensor)
    return found.squeeze(2)


@pytest.mark.parametrize("used", [3, 17, TOKENS])
def test_albert_by_channels_equals_albert(
    network: PipelineNetwork, whole: KokoroCompleteCoreML, used: int
) -> None:
    ids, mask = _ids(used)
    expected = whole.bert_encoder(whole.bert(ids, mask.float())).transpose(1, 2)
    assert snr(expected[:, :, :used], _encoded(network, ids, mask)[:, :, :used]) >= EXACT_DB


def test_albert_does_not_hear_its_padding(network: PipelineNetwork) -> None:
    ids, mask = _ids(17)
    other = torch.where(mask == 1, ids, 99)
    assert torch.equal(
        _encoded(network, ids, mask)[:, :, :17], _encoded(network, other, mask)[:, :, :17]
    )
    everything = torch.ones_like(mask)
    heard = _encoded(network, other, everything)[:, :, :17]
    assert snr(_encoded(network, ids, mask)[:, :, :17], heard) < EXACT_DB - 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_looking_up_by_a_product_gives_each_ids_own_row(
    network: PipelineNetwork, whole: KokoroCompleteCoreML, dtype: torch.dtype
) -> None:
    """For all 178 ids: 1 in the row of the id and 0 elsewhere, which half precision holds too."""
    table = network.bert.embeddings.word_embeddings.weight.to(dtype)
    ids = torch.arange(178).to(dtype).view(1, 1, 1, 178)
    known = torch.arange(178, dtype=dtype).view(1, -1, 1, 1)
    one_hot = torch.relu(1.0 - torch.abs(ids - known))
    assert one_hot.dtype == dtype
    found = torch.nn.functional.conv2d(one_hot, table.t()[:, :, None, None])
    expected = whole.bert.embeddings.word_embeddings(torch.arange(178)).to(dtype)
    assert torch.equal(found[0, :, 0].t(), expected)


def test_every_id_is_embedded_as_by_the_rewrite(
    network: PipelineNetwork, whole: KokoroCompleteCoreML
) -> None:
    ids = torch.arange(178).view(1, 178)
    expected = whole.bert.embeddings(ids).transpose(1, 2)
    found = network.bert.embeddings(ids.float().view(1, 1, 1, 178)).squeeze(2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
