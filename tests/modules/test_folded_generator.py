"""The generator over rows of time equals the generator over one axis.

The network here has the real rates, kernels and dilations, and few channels; the real weights are
in the slow tests at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.config import F0_PER_FRAME, IstftNetConfig
from kokoro_coreml.modules.complete import KokoroCompleteCoreML
from kokoro_coreml.modules.folded import generator as folded_generator
from kokoro_coreml.modules.folded.generator import GeneratorRows
from kokoro_coreml.modules.folded.geometry import CORE, Folding
from kokoro_coreml.modules.folded.halos import foldings, halos, reaches
from kokoro_coreml.modules.folded.norm import AdaIN, Rows, Styles
from kokoro_coreml.modules.folded.styles import number
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.noise import source_noise
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.recipe import load_recipe
from kokoro_coreml.vocabulary import Vocabulary, pad
from kokoro_coreml.voices import load_voice
from tests.support.folded import GeneratorPair, few_channels, real_config, rows_of, with_halos

FOLDED_DB = 85.0
BUCKETS = load_recipe("kokoro-82m").frames
COLUMNS_PER_FRAME = 120
COLUMNS_PER_ROW = 128 * COLUMNS_PER_FRAME
EDGE = 20
"""Columns at each side of a seam."""


@pytest.fixture(autouse=True)
def _inference() -> object:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def pairs() -> dict[int, GeneratorPair]:
    return {frames: GeneratorPair.random(frames) for frames in (*BUCKETS, 384)}


def _both(pair: GeneratorPair, frames: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Hidden values of both, [1, C, valid columns]."""
    inputs = pair.inputs(frames, seed=seed)
    expected = pair.over_one_axis(*inputs, frames)
    found = pair.over_rows(*inputs, rows_of(pair.foldings, pair.config.upsample_rates, frames))
    columns = COLUMNS_PER_FRAME * frames + 1
    assert torch.all(found[..., columns:] == 0)
    return expected[..., :columns], found[..., :columns]


def _snr(reference: Tensor, candidate: Tensor) -> float:
    return snr_db(reference=reference.numpy(), candidate=candidate.numpy())


def _parts(columns: int, per_row: int = COLUMNS_PER_ROW) -> dict[str, slice]:
    """Where folding could show: the beginning, around each seam, the end."""
    parts = {"beginning": slice(0, EDGE), "end": slice(columns - EDGE, columns)}
    for seam in range(per_row + 1, columns, per_row):
        parts[f"seam at {seam}"] = slice(seam - EDGE, seam + EDGE)
    return parts


@pytest.mark.parametrize("bucket", BUCKETS)
@settings(max_examples=4, deadline=None)
@given(data=st.data(), seed=st.integers(0, 5))
def test_equals_the_unfolded_generator_at_any_fill(
    pairs: dict[int, GeneratorPair], bucket: int, data: st.DataObject, seed: int
) -> None:
    frames = data.draw(st.integers(1, bucket))
    with torch.inference_mode():
        expected, found = _both(pairs[bucket], frames, seed)
        assert _snr(expected, found) >= FOLDED_DB
        for name, part in _parts(expected.shape[-1]).items():
            assert _snr(expected[..., part], found[..., part]) >= FOLDED_DB, name


@pytest.mark.parametrize("frames", [1, 2, 127, 128, 129, 136, 137, 255, 256, 257, 383, 384])
def test_fills_around_the_seams(pairs: dict[int, GeneratorPair], frames: int) -> None:
    expected, found = _both(pairs[384], frames)
    assert _snr(expected, found) >= FOLDED_DB
    for name, part in _parts(expected.shape[-1]).items():
        assert _snr(expected[..., part], found[..., part]) >= FOLDED_DB, name


def test_no_place_is_worse_than_another(pairs: dict[int, GeneratorPair]) -> None:
    """Halos are as wide as all kernels reach: only rounding is left, everywhere alike."""
    expected, found = _both(pairs[384], 300)
    error = (expected - found).abs()
    parts = _parts(error.shape[-1])
    rest = torch.ones(error.shape[-1], dtype=torch.bool)
    for part in parts.values():
        rest[part] = False
    for name, part in parts.items():
        assert error[..., part].max() <= 2.0 * error[..., rest].max(), name


@pytest.mark.parametrize("halos", [(6, 4), (16, 1)])
def test_each_halo_is_what_makes_it_equal(halos: tuple[int, int]) -> None:
    """In front of the last upsampler and behind it."""
    expected, found = _both(GeneratorPair.random(256, halos=halos), 200)
    seam = slice(COLUMNS_PER_ROW + 1 - EDGE, COLUMNS_PER_ROW + 1 + EDGE)
    assert _snr(expected[..., seam], found[..., seam]) < FOLDED_DB - 10


TINY_RATES = replace(
    few_channels(),
    upsample_rates=(4, 2),
    upsample_kernel_sizes=(8, 4),
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 3, 5), (1, 2, 3)),
)
THREE = replace(few_channels(), upsample_rates=(4, 3, 2), upsample_kernel_sizes=(8, 9, 4))
WIDE_KERNELS = replace(few_channels(), upsample_kernel_sizes=(70, 54))


@pytest.mark.parametrize("config", [few_channels(), TINY_RATES, THREE, WIDE_KERNELS])
def test_reaches_are_those_of_the_gradient(
    config: IstftNetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a row's core, without statistics, through which everything is connected."""
    monkeypatch.setattr(AdaIN, "forward", lambda _self, x, _styles, _at: x)
    with torch.inference_mode(False):
        assert _reached(config) == reaches(config)


def _reached(config: IstftNetConfig) -> list[int]:
    """Positions outside of the core at which each source, upsampler and spectrum is read."""
    network, rates, rows = GeneratorRows(config), widths(config.upsample_rates), Folding(1, 100)
    seen: dict[tuple[str, int], Tensor] = {}

    def watch(name: str, i: int) -> None:
        def keep(_module: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            seen[name, i] = args[0] * 1.0
            seen[name, i].retain_grad()
            return seen[name, i], *args[1:]

        network.get_submodule(f"{name}.{i}").register_forward_pre_hook(keep)

    for i in range(len(rates)):
        for name in ("ups", "noise_convs", "noise_res"):
            watch(name, i)
    at = [Rows(*[torch.ones(1, 1, 1, rows.width(rate))] * 2, torch.ones(1)) for rate in rates]
    x = torch.randn(1, config.upsample_initial_channel, 1, rows.width(1)).requires_grad_()
    har = torch.randn(1, config.gen_istft_n_fft + 2, 1, rows.width(rates[-1])).requires_grad_()
    hidden = network(x, har, at, Styles(torch.ones(1), torch.ones(1)), [rows] * len(rates))
    rows.unfold(hidden, rates[-1]).square().sum().backward()
    before = [1, *rates]
    found = [
        max(_outside(seen["noise_res", i], rows, rate), _outside(seen["ups", i], rows, before[i]))
        for i, rate in enumerate(rates)
    ]
    spectra = [_outside(seen["noise_convs", i], rows, rates[-1]) for i in range(len(rates))]
    return [*found[:-1], max(found[-1], *spectra)]


def _outside(x: Tensor, rows: Folding, rate: int) -> int:
    """Positions outside of the core at which x has a gradient, the larger of both sides."""
    assert x.grad is not None
    at = torch.nonzero(x.grad.abs().amax(dim=(0, 1, 2))).flatten()
    begin, end = rows.halo * rate, (rows.halo + rows.core) * rate
    return -(-max(begin - int(at.min()), int(at.max()) + 1 - end) // rate)


def test_the_packaged_network_has_these_halos() -> None:
    assert halos(real_config().istftnet) == [16, 4]


def test_halos_cost_little() -> None:
    """Multiplications of all convolutions, by what the rows would take without halos."""
    without = _multiplications([1, 1]) * CORE / (CORE + 2)
    assert 1.06 < _multiplications(halos(real_config().istftnet)) / without <= 1.07


def _multiplications(wide: Sequence[int]) -> int:
    """Of one row of the real network."""
    config, found = real_config().istftnet, []

    def count(module: torch.nn.Module, _inputs: object, output: Tensor) -> None:
        assert isinstance(module, torch.nn.Conv2d)
        found.append(module.weight.numel() * output.shape[-1])

    rates, rows = widths(config.upsample_rates), [Folding(1, halo) for halo in wide]
    with torch.device("meta"):
        network = GeneratorRows(config)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(count)
        channels = [norm.offset + norm.channels for _, norm in number(network)][-1]
        styles = Styles(*[torch.ones(1, channels, 1, 1)] * 2)
        at = [
            Rows(*[torch.ones(1, 1, 1, f.width(rate))] * 2, torch.ones(1, 1, 1, 1))
            for f, rate in zip(rows, rates, strict=True)
        ]
        x = torch.ones(1, config.upsample_initial_channel, 1, rows[0].width(1))
        har = torch.ones(1, config.gen_istft_n_fft + 2, 1, rows[-1].width(rates[-1]))
        network(x, har, at, styles, rows)
    return sum(found)


# what each mask is for

Fault = Callable[[pytest.MonkeyPatch, list[Rows]], list[Rows]]


def _all_valid(_: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    return [r._replace(valid=torch.ones_like(r.valid)) for r in at]


def _last_valid(_: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    return [at[0], at[1]._replace(valid=torch.ones_like(at[1].valid))]


def _first_valid(_: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    return [at[0]._replace(valid=torch.ones_like(at[0].valid)), at[1]]


def _neighbours_count(_: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    return [r._replace(own=r.valid) for r in at]


def _padding_counts(_: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    return [r._replace(own=torch.ones_like(r.own)) for r in at]


def _share_of_the_bucket(_: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    return [r._replace(share=torch.full_like(r.share, 1.0 / r.own.shape[2])) for r in at]


def _one_frame_more(_: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    return [r._replace(valid=torch.nn.functional.pad(r.valid, (1, 0))[..., :-1]) for r in at]


def _no_reflection(patch: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    patch.setattr(folded_generator, "_reflected", lambda x, _folding, _start: x)
    return at


def _reflection_in_every_row(patch: pytest.MonkeyPatch, at: list[Rows]) -> list[Rows]:
    def reflected(x: Tensor, _folding: Folding, start: int) -> Tensor:
        mirrored = x[..., start + 1 : start + 2]
        return torch.cat([x[..., : start - 1], mirrored, x[..., start:]], dim=3)

    patch.setattr(folded_generator, "_reflected", reflected)
    return at


FAULTS: Sequence[Fault] = (
    _all_valid,
    _first_valid,
    _last_valid,
    _neighbours_count,
    _padding_counts,
    _share_of_the_bucket,
    _one_frame_more,
    _no_reflection,
    _reflection_in_every_row,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_without_any_one_mask_it_is_another_network(
    pairs: dict[int, GeneratorPair], monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    pair, frames = pairs[256], 150
    inputs = pair.inputs(frames)
    columns = COLUMNS_PER_FRAME * frames + 1
    expected = pair.over_one_axis(*inputs, frames)[..., :columns]
    at = fault(monkeypatch, rows_of(pair.foldings, pair.config.upsample_rates, frames))
    found = pair.over_rows(*inputs, at)[..., :columns]
    assert _snr(expected, found) < FOLDED_DB - 10


@pytest.mark.parametrize("branch", ["resblocks", "noise_res"])
def test_each_branch_needs_its_mask(
    pairs: dict[int, GeneratorPair], monkeypatch: pytest.MonkeyPatch, branch: str
) -> None:
    """What stands behind the end must not reach the convolutions of one branch alone."""
    pair = pairs[256]
    for module in getattr(pair.folded, branch):
        monkeypatch.setattr(module, "forward", _blind(module.forward))
    assert _snr(*_both_unchecked(pair, 150)) < FOLDED_DB - 10


def _blind(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def block(x: Tensor, styles: Styles, rows: Rows) -> Tensor:
        return forward(x, styles, rows._replace(valid=torch.ones_like(rows.valid)))

    return block


def _both_unchecked(pair: GeneratorPair, frames: int) -> tuple[Tensor, Tensor]:
    inputs = pair.inputs(frames)
    columns = COLUMNS_PER_FRAME * frames + 1
    at = rows_of(pair.foldings, pair.config.upsample_rates, frames)
    expected = pair.over_one_axis(*inputs, frames)[..., :columns]
    return expected, pair.over_rows(*inputs, at)[..., :columns]


# styles


def test_each_adain_has_its_own_style(pairs: dict[int, GeneratorPair]) -> None:
    pair = pairs[128]
    found = number(pair.folded)
    ends = [norm.offset + norm.channels for _, norm in found]
    assert [norm.offset for _, norm in found] == [0, *ends[:-1]]
    assert ends[-1] == pair.styles.channels
    style = torch.randn(1, 6)
    styles = pair.styles(style)
    for name, norm in found:
        gamma, beta = pair.whole.get_submodule(f"{name}.fc")(style).chunk(2, dim=1)
        mine = slice(norm.offset, norm.offset + norm.channels)
        torch.testing.assert_close(styles.scale[0, mine, 0, 0], 1.0 + gamma[0])
        torch.testing.assert_close(styles.shift[0, mine, 0, 0], beta[0])


def test_swapped_styles_are_another_voice(
    pairs: dict[int, GeneratorPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (norm for _, norm in number(pairs[128].folded)[:2])
    assert first.channels == second.channels
    a, b = first.offset, second.offset
    monkeypatch.setattr(first, "offset", b)
    monkeypatch.setattr(second, "offset", a)
    assert _snr(*_both_unchecked(pairs[128], 100)) < 60.0


# the real weights


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.8, 1.0])
def test_real_weights_need_their_halos(packaged: Checkpoint, share: float) -> None:
    frames, pair, inputs, expected = _real(packaged, share)
    rows = pair.foldings
    own = tuple(halos(pair.config))
    for tried in (own, (5, own[1]), (own[0], 1)):
        pair.foldings = with_halos(rows, tried)
        at = rows_of(pair.foldings, pair.config.upsample_rates, frames)
        found = pair.over_rows(*inputs, at)[..., : expected.shape[-1]]
        places = {
            n: _snr(expected[..., p], found[..., p]) for n, p in _parts(expected.shape[-1]).items()
        }
        assert (min(places.values()) >= FOLDED_DB) == (tried == own), (tried, places)


@dataclass(frozen=True)
class Sample:
    """The sample's features and spectrum of the source, without padding."""

    pair: GeneratorPair
    features: Tensor
    har: Tensor
    style: Tensor

    def long(self, frames: int) -> tuple[Tensor, Tensor]:
        """Said again and again, and cut."""
        times = -(-F0_PER_FRAME * frames // self.features.shape[2])
        har = torch.cat([self.har[..., :1], self.har[..., 1:].repeat(1, 1, times)], dim=2)
        features = self.features.repeat(1, 1, times)
        return features[..., : F0_PER_FRAME * frames], har[..., : COLUMNS_PER_FRAME * frames + 1]

    def parts(self, frames: int, behind: Sequence[Folding]) -> dict[str, float]:
        """SNR of the whole and of each of its `_parts`, folded against unfolded."""
        features, har = self.long(frames)
        self.pair.whole.frames, self.pair.foldings, folding = frames, behind, behind[0]
        expected = self.pair.over_one_axis(features, har, self.style, frames)
        missing = folding.rows * folding.core - features.shape[2]
        features = torch.nn.functional.pad(features, (0, missing))
        har = torch.nn.functional.pad(har, (0, missing * COLUMNS_PER_FRAME // F0_PER_FRAME))
        at = rows_of(behind, self.pair.config.upsample_rates, frames)
        columns = expected.shape[2]
        found = self.pair.over_rows(features, har, self.style, at)[..., :columns]
        places = _parts(columns, folding.core * COLUMNS_PER_FRAME // F0_PER_FRAME)
        places["whole"] = slice(0, columns)
        return {name: _snr(expected[..., p], found[..., p]) for name, p in places.items()}


@pytest.fixture(scope="module")
def sample(packaged: Checkpoint) -> Sample:
    with torch.inference_mode():
        frames, pair, (features, har, style), _ = _real(packaged, 1.0)
    har = har[..., : COLUMNS_PER_FRAME * frames + 1]
    return Sample(pair, features[..., : F0_PER_FRAME * frames], har, style)


@pytest.mark.slow
def test_every_seam_of_a_larger_bucket(sample: Sample) -> None:
    found = sample.parts(400, foldings(512, sample.pair.config))
    assert len(found) == 3 + 3
    assert min(found.values()) >= FOLDED_DB, found


@pytest.mark.slow
def test_seven_seams_of_the_real_weights(sample: Sample) -> None:
    found = sample.parts(128, [Folding(8, halo, core=32) for halo in halos(sample.pair.config)])
    assert len(found) == 3 + 7
    assert min(found.values()) >= FOLDED_DB + 15, found


def _real(
    packaged: Checkpoint, share: float
) -> tuple[int, GeneratorPair, tuple[Tensor, Tensor, Tensor], Tensor]:
    """Frames, networks, inputs and expected values of a part of the recipe's sample."""
    config, phonemes = packaged.config, load_recipe("complete").sample.phonemes
    phonemes = phonemes[: int(len(phonemes) * share)]
    network = KokoroCompleteCoreML(packaged, 128, 256, source_noise(0, 256 * 600))
    ids = Vocabulary.from_config(config).encode(phonemes)
    input_ids, mask = (torch.from_numpy(v) for v in pad(tuple(ids), 128))
    row = torch.from_numpy(np.asarray(load_voice("af_heart").row(len(phonemes))))
    whole, rows = network.decoder.generator, PipelineNetwork(packaged)
    seen: list[Tensor] = []
    whole.conv_post.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    at = network.boundaries(input_ids, row, torch.zeros(1, 9), mask, torch.ones(1))
    frames = int(at.durations.sum())
    behind = foldings(256, config.istftnet)
    pair = GeneratorPair(config.istftnet, 256, whole, rows.generator, rows.generator_styles, behind)
    inputs = (at.features, at.har, row[:, : config.style_dim])
    return frames, pair, inputs, seen[0][..., : COLUMNS_PER_FRAME * frames + 1]
