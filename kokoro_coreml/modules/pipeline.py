"""The network cut into stages that each suit one processor.

One `PipelineNetwork` holds the weights; a stage binds it to a bucket. `stages.pipeline` names the
inputs and outputs; what passes from one stage to the next is described there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.checkpoint.types import Checkpoint
from kokoro_coreml.config import F0_PER_FRAME
from kokoro_coreml.modules.alignment import create_alignment_matrix
from kokoro_coreml.modules.folded.albert import AlbertByChannels
from kokoro_coreml.modules.folded.curves import Curves, CurvesPerFrame
from kokoro_coreml.modules.folded.decoder import DecoderRows
from kokoro_coreml.modules.folded.generator import GeneratorRows
from kokoro_coreml.modules.folded.halos import foldings
from kokoro_coreml.modules.folded.norm import Rows, Styles, rows_behind
from kokoro_coreml.modules.folded.styles import StyleProjection
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.generator import POST_SLOPE
from kokoro_coreml.modules.masks import valid_prefix
from kokoro_coreml.modules.prosody import ProsodyPredictorFixed
from kokoro_coreml.modules.source import SourceModuleHnNSFDeterministic
from kokoro_coreml.modules.stft import InverseSTFT, SourceSTFT
from kokoro_coreml.modules.text_encoder import TextEncoderFixed
from kokoro_coreml.modules.weights import load_translated, translate

_SOURCE = "generator.m_source."
_POST = "generator.conv_post."
_GENERATOR = "generator."
_STYLE = ".fc."


class PipelineNetwork(nn.Module):
    """All weights of the pipeline, in the form its stages use them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Build and load.

        Raises:
            CheckpointError: the state dicts do not fit the configuration.
        """
        super().__init__()
        config = self.config = checkpoint.config
        self.bert = AlbertByChannels(config.plbert, config.n_token)
        self.bert_encoder = nn.Conv2d(config.plbert.hidden_size, config.hidden_dim, 1)
        self.predictor = ProsodyPredictorFixed(
            config.style_dim, config.hidden_dim, config.n_layer, config.max_dur
        )
        self.text_encoder = TextEncoderFixed(
            config.hidden_dim, config.text_encoder_kernel_size, config.n_layer, config.n_token
        )
        self.curves = CurvesPerFrame()
        self.decoder = DecoderRows(config)
        self.generator = GeneratorRows(config.istftnet)
        self.decoder_styles = StyleProjection(self.decoder, config.style_dim)
        self.generator_styles = StyleProjection(self.generator, config.style_dim)
        net = config.istftnet
        channels = net.upsample_initial_channel >> len(net.upsample_rates)
        self.conv_post = nn.Conv1d(channels, net.gen_istft_n_fft + 2, 7, padding=3)
        self.source = SourceModuleHnNSFDeterministic(config.samples_per_frame // F0_PER_FRAME, 1)
        self._load({part: translate(state) for part, state in checkpoint.state.items()})
        self.eval()
        self.requires_grad_(False)

    def _load(self, parts: Mapping[str, dict[str, Tensor]]) -> None:
        for name in ("bert", "bert_encoder", "predictor", "text_encoder"):
            load_translated(getattr(self, name), parts[name])
        rest = parts["decoder"]
        source, rest = _split(rest, _SOURCE)
        post, rest = _split(rest, _POST)
        generator, decoder = _split(rest, _GENERATOR)
        curves = {key: decoder.pop(key) for key in self.curves.state_dict() if key in decoder}
        for module, styles, state in (
            (self.decoder, self.decoder_styles, decoder),
            (self.generator, self.generator_styles, generator),
        ):
            load_translated(module, {k: v for k, v in state.items() if _STYLE not in k})
            own = styles.own_state({k: v for k, v in state.items() if _STYLE in k})
            load_translated(styles, own)
        load_translated(self.curves, curves)
        load_translated(self.source, source)
        load_translated(self.conv_post, post)


def _split(state: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return inside, {k: v for k, v in state.items() if not k.startswith(prefix)}


class EncoderStage(nn.Module):
    """ALBERT and `bert_encoder`."""

    def __init__(self, network: PipelineNetwork) -> None:
        super().__init__()
        self.bert, self.bert_encoder = network.bert, network.bert_encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        """Ids and mask [1, 1, 1, T], both floating point -> encoded [1, hidden_dim, 1, T]."""
        return (self.bert_encoder(self.bert(input_ids, attention_mask)),)


class Timed(NamedTuple):
    """What the stage `Duration` gives; token axes are padded to the network's longest, M."""

    d: Tensor
    """[1, M, hidden_dim + style_dim], 0 where padded."""
    text: Tensor
    """[1, hidden_dim, M], 0 where padded."""
    pred_dur: Tensor
    """int32 [1, M], frames per token, 0 where padded."""
    decoder_scale: Tensor
    decoder_shift: Tensor
    generator_scale: Tensor
    generator_shift: Tensor


class DurationStage(nn.Module):
    """Everything that happens once per utterance: LSTMs over tokens, durations, styles."""

    def __init__(self, network: PipelineNetwork, tokens: int) -> None:
        super().__init__()
        self.predictor, self.text_encoder = network.predictor, network.text_encoder
        self.decoder_styles = network.decoder_styles
        self.generator_styles = network.generator_styles
        self.style_dim = network.config.style_dim
        self.missing = network.config.plbert.max_position_embeddings - tokens

    def forward(
        self,
        encoded: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        ref_s: Tensor,
        speed: Tensor,
    ) -> Timed:
        """Time an utterance.

        Args:
            encoded: [1, hidden_dim, 1, T].
            input_ids: int32 [1, T].
            attention_mask: int32 [1, T], 1 where valid.
            ref_s: [1, 2 * style_dim].
            speed: [1].
        """
        mask = attention_mask.to(torch.float32)
        timbre, style = ref_s[:, : self.style_dim], ref_s[:, self.style_dim :]
        d = self.predictor.text_encoder(encoded.squeeze(2).transpose(1, 2), style, mask)
        durations = self.predictor.durations(d, speed, mask)
        text = self.text_encoder(input_ids, mask)
        return Timed(
            F.pad(d, (0, 0, 0, self.missing)),
            F.pad(text, (0, self.missing)),
            F.pad(durations, (0, self.missing)).to(torch.int32),
            *self.decoder_styles(timbre),
            *self.generator_styles(timbre),
        )


class Aligned(NamedTuple):
    """What the stage `Prosody` gives."""

    f0: Tensor
    """Hz, [1, 2 F], 0 where padded."""
    curves: Tensor
    """F0 and energy less their means, as `folded.curves` has them, [1, 2, 1, F], 0 where padded."""
    levels: Tensor
    """The means, [1, 2, 1, 1]."""
    asr: Tensor
    """[1, hidden_dim, 1, F], 0 where padded."""
    frame_mask: Tensor
    """[1, 1, 1, F], 1 where valid."""


class ProsodyStage(nn.Module):
    """Alignment, F0 and energy."""

    def __init__(self, network: PipelineNetwork, frames: int) -> None:
        super().__init__()
        self.predictor, self.per_frame = network.predictor, network.curves
        self.frames = frames
        self.style_dim = network.config.style_dim

    def forward(self, d: Tensor, text: Tensor, pred_dur: Tensor, ref_s: Tensor) -> Aligned:
        """Align to frames; `d`, `text` and `pred_dur` as `Timed` has them."""
        durations = pred_dur.to(torch.float32)
        count = durations.sum(dim=1).view(1, 1, 1)
        frames = valid_prefix(count, self.frames)
        positions = valid_prefix(count * F0_PER_FRAME, self.frames * F0_PER_FRAME)
        alignment = create_alignment_matrix(durations, self.frames)
        en = d.transpose(1, 2) @ alignment
        f0, energy = self.predictor.curves(en, ref_s[:, self.style_dim :], frames, positions)
        curves, levels = self.per_frame(f0, energy, frames)
        asr = (text @ alignment).unsqueeze(2)
        return Aligned(f0, curves, levels, asr, frames.mask.unsqueeze(2))


class DecoderStage(nn.Module):
    """Everything in front of the generator, folded into rows at the end."""

    def __init__(self, network: PipelineNetwork, frames: int) -> None:
        super().__init__()
        self.decoder = network.decoder
        self.folding = foldings(frames, network.config.istftnet)[0]

    def forward(
        self,
        asr: Tensor,
        curves: Tensor,
        levels: Tensor,
        frame_mask: Tensor,
        decoder_scale: Tensor,
        decoder_shift: Tensor,
    ) -> tuple[Tensor]:
        """Inputs as `Aligned` and `Timed` have them -> features [1, 512, rows, width]."""
        styles = Styles(decoder_scale, decoder_shift)
        x = self.decoder(asr, Curves(curves, levels), frame_mask, styles)
        return (self.folding.fold(x, 1),)


class SourceStage(nn.Module):
    """The spectrum of the source, and the masks of the rows it is folded into."""

    norm: Tensor

    def __init__(self, network: PipelineNetwork, frames: int) -> None:
        super().__init__()
        config, self.frames = network.config, frames
        self.rates = widths(config.istftnet.upsample_rates)
        self.foldings = foldings(frames, config.istftnet)
        self.columns_per_frame = config.columns_per_frame
        self.samples_per_frame = config.samples_per_frame
        positions = F0_PER_FRAME * frames
        self.m_source = SourceModuleHnNSFDeterministic(config.samples_per_frame // 2, positions)
        self.m_source.l_linear = network.source.l_linear
        self.stft = SourceSTFT(
            config.istftnet.gen_istft_n_fft,
            config.istftnet.gen_istft_hop_size,
            config.samples_per_frame,
        )
        norm = network.source.l_linear.weight.double().norm().to(torch.float32)
        self.register_buffer("norm", norm, persistent=False)
        self.eval()

    def forward(
        self, f0: Tensor, frames: Tensor, random_phases: Tensor, noise: Tensor
    ) -> tuple[Tensor, ...]:
        """Excite.

        Args:
            f0: Hz, [1, 2 F], 0 where padded.
            frames: int32 [1], how many are valid.
            random_phases: cycles, [1, 9].
            noise: unit Gaussian noise, [1, 2 F, samples per position]. Upstream draws it for nine
                harmonics and sums them with weights; their sum is Gaussian noise again.

        Returns:
            har [1, n_fft + 2, rows, width of the last rate], then valid, own and share of each
            upsampler's positions (see `folded.norm.Rows`).
        """
        count = frames.to(torch.float32).view(1, 1, 1)
        signal = self.m_source(f0, random_phases, noise * self.norm)
        signal = signal.reshape(1, self.frames, self.samples_per_frame)
        mask = valid_prefix(count, self.frames).mask.transpose(1, 2)
        columns = self.columns_per_frame
        column_mask = valid_prefix(count * columns + 1.0, self.frames * columns + 1).mask
        har = self.stft(signal, mask, column_mask).unsqueeze(2)
        positions = (count * F0_PER_FRAME).unsqueeze(-1)
        rows = [value for at in rows_behind(self.foldings, positions, self.rates) for value in at]
        return (self.foldings[-1].fold(har, self.rates[-1], extra=1), *rows)


class GeneratorStage(nn.Module):
    """The generator's body over rows."""

    def __init__(self, network: PipelineNetwork, frames: int) -> None:
        super().__init__()
        self.generator = network.generator
        self.foldings = foldings(frames, network.config.istftnet)

    def forward(
        self,
        features: Tensor,
        har: Tensor,
        generator_scale: Tensor,
        generator_shift: Tensor,
        *rows: Tensor,
    ) -> tuple[Tensor]:
        """Inputs as `DecoderStage`, `SourceStage` and `Timed` have them -> what the tail reads."""
        at = [Rows(*rows[i : i + 3]) for i in range(0, len(rows), 3)]
        styles = Styles(generator_scale, generator_shift)
        return (self.generator(features, har, at, styles, self.foldings),)


class TailStage(nn.Module):
    """`conv_post`, the spectral head and the iSTFT.

    `conv_post` gives the logarithm of magnitudes: rounded to half precision it would cost 0.35 dB
    of spectral distance and 6 dB of SNR, more than the whole body in front of it.
    """

    def __init__(self, network: PipelineNetwork, frames: int) -> None:
        super().__init__()
        config, self.conv_post = network.config, network.conv_post
        net = config.istftnet
        self.frames, self.folding = frames, foldings(frames, net)[-1]
        self.rate = widths(net.upsample_rates)[-1]
        self.bins = net.gen_istft_n_fft // 2 + 1
        self.columns_per_frame = config.columns_per_frame
        self.samples_per_frame = config.samples_per_frame
        self.istft = InverseSTFT(net.gen_istft_n_fft, net.gen_istft_hop_size)

    def forward(self, hidden: Tensor, frames: Tensor) -> tuple[Tensor]:
        """Hidden as `GeneratorStage` gives it, and the valid frames -> audio [1, samples]."""
        count = frames.to(torch.float32).view(1, 1, 1)
        columns, samples = self.columns_per_frame, self.samples_per_frame
        column_mask = valid_prefix(count * columns + 1.0, self.frames * columns + 1).mask
        sample_mask = valid_prefix(count * samples, self.frames * samples).mask
        x = self.folding.unfold(hidden, self.rate, extra=1)
        x = self.conv_post(F.leaky_relu(x, POST_SLOPE))
        magnitude, phase = torch.exp(x[:, : self.bins]), torch.sin(x[:, self.bins :])
        return (self.istft(magnitude, phase, column_mask, sample_mask).squeeze(1),)
