"""Upstream's own `KModel`, as installed, with nothing changed but where its noise comes from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kokoro_coreml.checkpoint import Checkpoint, write_pth
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import ParityError
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.noise import source_noise
from kokoro_coreml.voices import VoicePack

Noise = Tensor | int | Callable[[int], Tensor]


class InjectedNoise(TorchFunctionMode):
    """Hands out given noise wherever upstream draws some.

    `SineGen` draws `rand` once for phases (never read) and `randn_like` once for the harmonics;
    `SourceModuleHnNSF` draws `randn_like` once more and drops it. Any other draw moves torch's own
    generator, which is an error on leaving, so a new upstream version cannot slip by.
    """

    def __init__(self, noise: Noise) -> None:
        """`noise`: unit noise [1, at least as many samples as will be asked for, 9], or a seed, or
        what makes as many samples as are asked for."""
        super().__init__()
        self.noise = noise

    def __enter__(self) -> Self:
        """Remember the state of torch's generator."""
        self.state = torch.get_rng_state()
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        """Refuse a draw that passed by; raises `ParityError`."""
        super().__exit__(kind, value, trace)  # type: ignore[no-untyped-call]
        if kind is None and not torch.equal(self.state, torch.get_rng_state()):
            raise ParityError("upstream drew noise by a call that is not known")

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace the draws, pass everything else on."""
        kwargs = kwargs or {}
        if func is torch.randn_like:
            return self._noise_like(args[0])
        if func is torch.rand:
            return torch.zeros(*args, **kwargs)
        if func in (torch.randn, torch.normal, torch.bernoulli, torch.rand_like):
            raise ParityError(f"upstream drew noise by an unexpected call: {func}")
        return func(*args, **kwargs)

    def _noise_like(self, like: Tensor) -> Tensor:
        if like.shape[-1] != HARMONICS:
            return torch.zeros_like(like)
        if isinstance(self.noise, int):
            return source_noise(self.noise, like.shape[1]).to(like.dtype)
        if not isinstance(self.noise, Tensor):
            return self.noise(like.shape[1]).to(like.dtype)
        if like.shape[1] > self.noise.shape[1]:
            raise ParityError(
                f"upstream asked for {like.shape[1]} samples of noise, {self.noise.shape[1]} given"
            )
        return self.noise[:, : like.shape[1]].to(like.dtype)


@dataclass(frozen=True)
class ReferenceSpeech:
    """What upstream said."""

    audio: np.ndarray
    """float32 [samples]."""
    durations: np.ndarray
    """int64 [tokens], frames per token, the boundary tokens included."""


def upstream_inputs(
    config: ModelConfig, phonemes: str, voice: VoicePack
) -> tuple[list[int], np.ndarray]:
    """Token ids and voice row [1, 2 * style_dim] by upstream's rules, not by our code.

    Source: `kokoro.model.KModel.forward` and `kokoro.pipeline.KPipeline.infer`.
    """
    ids = [0, *(config.vocab[p] for p in phonemes if p in config.vocab), 0]
    return ids, voice.data[len(phonemes) - 1][np.newaxis]


class Reference:
    """Upstream's network with the weights of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, *, double: bool = False) -> None:
        """Build `kokoro.model.KModel` and prove that it holds the checkpoint's weights.

        Upstream falls back to a non-strict load that can leave random weights in place without a
        word; every tensor is therefore compared after loading.

        Args:
            checkpoint: the weights.
            double: compute in double precision, which shows how far upstream's own float32 is from
                what its network says.

        Raises:
            ParityError: upstream did not take a weight as it is.
        """
        from kokoro.model import KModel

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pth"
            write_pth(checkpoint, path)
            config = dict(checkpoint.config.raw)
            self.model = KModel(repo_id="local", config=config, model=str(path)).eval()
        self.config = checkpoint.config
        self._check(checkpoint)
        self.dtype = torch.float64 if double else torch.float32
        if double:
            _widen(self.model)

    def _check(self, checkpoint: Checkpoint) -> None:
        for part, state in checkpoint.state.items():
            loaded = getattr(self.model, part).state_dict()
            for key, value in state.items():
                if key not in loaded or not torch.equal(loaded[key], value):
                    raise ParityError(f"upstream's KModel did not load {part}.{key}")

    def speak(
        self, input_ids: list[int], ref_s: np.ndarray, *, noise: Noise | None, speed: float = 1.0
    ) -> ReferenceSpeech:
        """Run upstream at the exact length.

        Args:
            input_ids: with the zero token in front and behind.
            ref_s: float32 [1, 2 * style_dim].
            noise: unit noise [1, samples, 9], the seed to make it from, or what makes it; None lets
                upstream draw its own.
            speed: 1 is the voice's own pace.
        """
        ids = torch.tensor([input_ids], dtype=torch.long)
        row = torch.from_numpy(np.array(ref_s, dtype=np.float32)).to(self.dtype)
        given = nullcontext() if noise is None else InjectedNoise(noise)
        with torch.inference_mode(), given, _default_dtype(self.dtype):
            audio, durations = self.model.forward_with_tokens(ids, row, speed)
        samples = audio.to(torch.float32).numpy().reshape(-1)
        return ReferenceSpeech(samples, durations.numpy().reshape(-1))


def _widen(model: torch.nn.Module) -> None:
    """To double precision, with the window that `TorchSTFT` keeps as no buffer."""
    model.double()
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.dtype == torch.float32:
                setattr(module, name, value.double())


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Upstream makes its alignment and its positions in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
