"""The whole network as one module of fixed shape: rewrite of `kokoro.model.KModel`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kokoro_coreml.checkpoint.types import Checkpoint
from kokoro_coreml.config import F0_PER_FRAME
from kokoro_coreml.modules.albert import Albert
from kokoro_coreml.modules.alignment import create_alignment_matrix
from kokoro_coreml.modules.decoder import DecoderFixed
from kokoro_coreml.modules.masks import valid_prefix
from kokoro_coreml.modules.prosody import ProsodyPredictorFixed
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.modules.text_encoder import TextEncoderFixed
from kokoro_coreml.modules.weights import load_upstream


class Speech(NamedTuple):
    """Outputs of the complete network."""

    audio: Tensor
    """[1, 1, samples_per_frame * F], 0 from `audio_length_samples` on."""
    audio_length_samples: Tensor
    """int32 [1]. More than the audio holds means that the text did not fit the frame bucket."""
    pred_dur: Tensor
    """int32 [1, T], frames per token, 0 for padding."""


class Boundaries(NamedTuple):
    """What passes from one module to the next, in order; padded positions are not all 0."""

    hidden: Tensor
    """ALBERT's last hidden state, [1, T, hidden_size]."""
    encoded: Tensor
    """Behind `bert_encoder`, [1, T, hidden_dim]."""
    d: Tensor
    """The predictor's text encoder, [1, T, hidden_dim + style_dim]."""
    durations: Tensor
    """Whole frames, float32 [1, T]."""
    en: Tensor
    """`d` aligned to frames, [1, hidden_dim + style_dim, F]."""
    f0: Tensor
    """Hz, [1, 2 F]."""
    energy: Tensor
    """[1, 2 F]."""
    text: Tensor
    """The text encoder, [1, hidden_dim, T]."""
    asr: Tensor
    """`text` aligned to frames, [1, hidden_dim, F]."""
    features: Tensor
    """The decoder in front of the generator, [1, 512, 2 F]."""
    har: Tensor
    """Magnitude and phase of the source, [1, n_fft + 2, columns]."""
    spectrum: Tensor
    """The output of `conv_post`, [1, n_fft + 2, columns]."""
    audio: Tensor
    """[1, 1, samples]."""


class KokoroCompleteCoreML(nn.Module):
    """Tokens, voice row, phases, mask and speed in; audio, its length and durations out."""

    noise: Tensor

    def __init__(self, checkpoint: Checkpoint, tokens: int, frames: int, noise: Tensor) -> None:
        """Build and load.

        Args:
            checkpoint: the weights.
            tokens: length of the token axis, T.
            frames: length of the frame axis, F.
            noise: unit Gaussian noise, [1, samples_per_frame * F, 9].

        Raises:
            CheckpointError: the state dicts do not fit the configuration.
            ValueError: noise of the wrong shape, or more tokens than the network takes.
        """
        super().__init__()
        config = checkpoint.config
        self.style_dim, self.tokens, self.frames = config.style_dim, tokens, frames
        self.samples_per_frame = config.samples_per_frame
        _check_shapes(config.plbert.max_position_embeddings, tokens)
        expected = (1, self.samples_per_frame * frames, HARMONICS)
        if tuple(noise.shape) != expected:
            raise ValueError(f"noise has shape {tuple(noise.shape)}, expected {expected}")
        self.bert = Albert(config.plbert, config.n_token)
        self.bert_encoder = nn.Linear(config.plbert.hidden_size, config.hidden_dim)
        self.predictor = ProsodyPredictorFixed(
            config.style_dim, config.hidden_dim, config.n_layer, config.max_dur
        )
        self.text_encoder = TextEncoderFixed(
            config.hidden_dim, config.text_encoder_kernel_size, config.n_layer, config.n_token
        )
        self.decoder = DecoderFixed(config, frames)
        for part, state in checkpoint.state.items():
            load_upstream(getattr(self, part), state)
        merged = self.decoder.generator.m_source.merge_noise(noise)
        self.register_buffer("noise", merged.detach(), persistent=False)
        self.eval()
        self.requires_grad_(False)

    def forward(
        self,
        input_ids: Tensor,
        ref_s: Tensor,
        random_phases: Tensor,
        attention_mask: Tensor,
        speed: Tensor,
    ) -> Speech:
        """Speak.

        Args:
            input_ids: int32 [1, T], a zero in front and behind, then padding.
            ref_s: float32 [1, 2 * style_dim], one row of a voice pack.
            random_phases: float32 [1, 9], initial phases of the harmonics in cycles; 0 is upstream.
            attention_mask: int32 [1, T], 1 where valid.
            speed: float32 [1].
        """
        at = self.boundaries(input_ids, ref_s, random_phases, attention_mask, speed)
        samples = at.durations.sum(dim=1) * float(self.samples_per_frame)
        return Speech(at.audio, samples.to(torch.int32), at.durations.to(torch.int32))

    def boundaries(
        self,
        input_ids: Tensor,
        ref_s: Tensor,
        random_phases: Tensor,
        attention_mask: Tensor,
        speed: Tensor,
    ) -> Boundaries:
        """Everything that passes from one module to the next; arguments as in `forward`."""
        mask = attention_mask.to(torch.float32)
        timbre, style = ref_s[:, : self.style_dim], ref_s[:, self.style_dim :]
        hidden = self.bert(input_ids, mask)
        encoded = self.bert_encoder(hidden)
        d = self.predictor.text_encoder(encoded, style, mask)
        durations = self.predictor.durations(d, speed, mask)
        alignment = create_alignment_matrix(durations, self.frames)
        frame_count = durations.sum(dim=1).view(1, 1, 1)
        frames = valid_prefix(frame_count, self.frames)
        positions = valid_prefix(frame_count * F0_PER_FRAME, self.frames * F0_PER_FRAME)
        en = d.transpose(1, 2) @ alignment
        f0, energy = self.predictor.curves(en, style, frames, positions)
        text = self.text_encoder(input_ids, mask)
        asr = text @ alignment
        features = self.decoder.features(asr, f0, energy, timbre, frames, positions)
        generator = self.decoder.generator
        masks = generator.masks(frame_count)
        har = generator.excitation(f0, random_phases, self.noise, masks)
        spectrum = generator.body(features, timbre, har, masks)
        audio = generator.tail(spectrum, masks)
        return Boundaries(
            hidden, encoded, d, durations, en, f0, energy, text, asr, features, har, spectrum, audio
        )


def _check_shapes(limit: int, tokens: int) -> None:
    if not 0 < tokens <= limit:
        raise ValueError(f"{tokens} tokens; the network takes 1 to {limit}")
