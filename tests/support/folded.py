"""The generator with the real rates and kernels but few channels, folded and not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kokoro_coreml.config import F0_PER_FRAME, IstftNetConfig, ModelConfig
from kokoro_coreml.modules.folded.generator import GeneratorRows
from kokoro_coreml.modules.folded.geometry import Folding
from kokoro_coreml.modules.folded.halos import foldings
from kokoro_coreml.modules.folded.norm import Rows
from kokoro_coreml.modules.folded.styles import StyleProjection
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.generator import GeneratorDeterministic, GeneratorMasks
from kokoro_coreml.modules.weights import load_translated
from kokoro_coreml.resources import data_file

STYLE = 6
CHANNELS = 12


def real_config() -> ModelConfig:
    """The configuration of the 82 M checkpoint."""
    raw = json.loads(data_file("kokoro-82m.config.json").read_text(encoding="utf-8"))
    return ModelConfig.from_dict(raw)


def few_channels() -> IstftNetConfig:
    """The real generator's, but for the channels."""
    return replace(real_config().istftnet, upsample_initial_channel=CHANNELS)


def places(folding: Folding, rate: int, extra: int = 0) -> Tensor:
    """Where each position of the rows stands on the axis of time, [rows, width].

    Counted from the first position of that axis, `extra` of which stand in front of the core of the
    first row.
    """
    start = torch.arange(folding.rows)[:, None] * folding.core * rate
    return start + torch.arange(folding.width(rate)) - folding.halo * rate + extra


def by_place(x: Tensor, folding: Folding, rate: int, extra: int = 0) -> Tensor:
    """[1, C, length] -> [1, C, rows, width]: each position's value, and 0 outside of the axis."""
    place = places(folding, rate, extra)
    inside = (place >= 0) & (place < x.shape[2])
    return torch.where(inside, x[:, :, place.clamp(0, x.shape[2] - 1)], torch.zeros(()))


def in_time(x: Tensor, folding: Folding, rate: int, extra: int = 0) -> Tensor:
    """[1, C, rows, width] -> [1, C, length]: each position as the row that owns it has it."""
    time = torch.arange(folding.rows * folding.core * rate + extra) - extra
    row = (time // (folding.core * rate)).clamp(min=0)
    return x[:, :, row, time - row * folding.core * rate + folding.halo * rate]


def rows_of(behind: Sequence[Folding], rates: tuple[int, ...], frames: int) -> list[Rows]:
    """What the stage `Source` gives behind each upsampler, made place by place."""
    found = []
    for folding, rate in zip(behind, widths(rates), strict=True):
        extra = int(rate == widths(rates)[-1])
        place, counted = places(folding, rate, extra), F0_PER_FRAME * frames * rate + extra
        valid = (place >= 0) & (place < counted)
        owner = ((place - extra) // (folding.core * rate)).clamp(min=0)
        own = valid & (owner == torch.arange(folding.rows)[:, None])
        share = torch.full((1, 1, 1, 1), folding.width(rate) / counted)
        found.append(Rows(valid.float()[None, None], own.float()[None, None], share))
    return found


@dataclass
class GeneratorPair:
    """One set of weights, over one axis of time and over rows of it."""

    config: IstftNetConfig
    frames: int
    """Of the bucket."""
    whole: GeneratorDeterministic
    folded: GeneratorRows
    styles: StyleProjection
    foldings: Sequence[Folding]
    """Behind each upsampler."""

    @classmethod
    def random(cls, frames: int, *, halos: Sequence[int] | None = None) -> GeneratorPair:
        """Random weights, the same for every bucket."""
        config = few_channels()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            whole = GeneratorDeterministic(config, STYLE, frames)
            for name, value in whole.named_parameters():
                if ".alpha" in name:
                    value.data.uniform_(0.5, 2.0)
        state = {k: v for k, v in whole.state_dict().items() if not k.startswith(_OUTSIDE)}
        for key in [k for k in state if ".alpha" in k]:
            state[key.replace(".alpha", ".inverse_alpha")].copy_(1.0 / state[key])
        folded = GeneratorRows(config)
        styles = StyleProjection(folded, STYLE)
        load_translated(folded, {k: v for k, v in state.items() if ".fc." not in k})
        load_translated(styles, styles.own_state({k: v for k, v in state.items() if ".fc." in k}))
        pair = cls(config, frames, whole.eval(), folded.eval(), styles.eval(), ())
        pair.foldings = foldings(frames, config)
        if halos is not None:
            pair.foldings = with_halos(pair.foldings, halos)
        return pair

    def inputs(self, frames: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Features [1, C, 2 F], spectrum [1, n_fft + 2, columns] and style; 0 where padded."""
        generator = torch.Generator().manual_seed(seed)
        masks = self.masks(frames)
        features = torch.randn(1, CHANNELS, F0_PER_FRAME * self.frames, generator=generator)
        features[:, :, F0_PER_FRAME * frames :] = 0.0
        columns = masks.stages[-1].mask.shape[2]
        har = torch.randn(1, self.config.gen_istft_n_fft + 2, columns, generator=generator)
        style = torch.randn(1, STYLE, generator=generator) * 0.5
        return features, har * masks.stages[-1].mask, style

    def masks(self, frames: int) -> GeneratorMasks:
        """Of the network over one axis."""
        return self.whole.masks(torch.full((1, 1, 1), float(frames)))

    def over_one_axis(self, features: Tensor, har: Tensor, style: Tensor, frames: int) -> Tensor:
        """What `conv_post` reads, [1, C, columns]."""
        seen: list[Tensor] = []
        hook = self.whole.conv_post.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        self.whole.body(features, style, har, self.masks(frames))
        hook.remove()
        return seen[0]

    def over_rows(
        self,
        features: Tensor,
        har: Tensor,
        style: Tensor,
        at: list[Rows],
    ) -> Tensor:
        """The same by rows, unfolded."""
        rate = widths(self.config.upsample_rates)[-1]
        hidden = self.folded(
            self.foldings[0].fold(features.unsqueeze(2), 1),
            self.foldings[-1].fold(har.unsqueeze(2), rate, extra=1),
            at,
            self.styles(style),
            self.foldings,
        )
        hidden = self.foldings[-1].unfold(hidden, rate, extra=1)
        return torch.nn.functional.leaky_relu(hidden, 0.01)


def with_halos(behind: Sequence[Folding], halos: Sequence[int]) -> list[Folding]:
    """The same rows with other halos."""
    return [replace(f, halo=halo) for f, halo in zip(behind, halos, strict=True)]


_OUTSIDE = ("m_source.", "stft.", "istft.", "conv_post.")
