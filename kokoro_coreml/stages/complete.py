"""The `complete` cut: one package, the interface app developers know."""

from __future__ import annotations

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.modules.complete import KokoroCompleteCoreML
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.noise import source_noise
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.stages.types import Port, Stage

NAME = "KokoroComplete"


def complete_stage(checkpoint: Checkpoint, bucket: Bucket, *, noise_seed: int) -> Stage:
    """Bind the whole network to a bucket.

    Args:
        checkpoint: the weights.
        bucket: tokens and frames.
        noise_seed: of the Gaussian noise that becomes a constant of the package.

    Raises:
        CheckpointError: the weights do not fit the configuration.
    """
    samples = checkpoint.config.samples_per_frame * bucket.frames
    module = KokoroCompleteCoreML(
        checkpoint, bucket.tokens, bucket.frames, source_noise(noise_seed, samples)
    )
    tokens = (1, bucket.tokens)
    return Stage(
        name=NAME,
        module=module,
        tokens=bucket.tokens,
        frames=bucket.frames,
        inputs=(
            Port("input_ids", "int32", tokens, "Phoneme ids, a zero in front and behind, then 0"),
            Port("ref_s", "float32", (1, 2 * checkpoint.config.style_dim), "One voice row"),
            Port(
                "random_phases",
                "float32",
                (1, HARMONICS),
                "Initial phase of each harmonic, in cycles; zeros reproduce the original network",
            ),
            Port("attention_mask", "int32", tokens, "1 for phoneme ids and their zeros, then 0"),
            Port("speed", "float32", (1,), "1 is the voice's own pace, 2 twice as fast"),
        ),
        outputs=(
            Port("audio", "float32", (1, 1, samples), "24 kHz mono, silent after its length"),
            Port(
                "audio_length_samples",
                "int32",
                (1,),
                "Length of the speech; more than the audio holds means the bucket was too short",
            ),
            Port("pred_dur", "int32", tokens, "Frames per token, 0 for padding"),
        ),
    )
