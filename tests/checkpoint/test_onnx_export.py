from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from kokoro.model import KModel
from onnx import TensorProto, helper, numpy_helper

from kokoro_coreml.checkpoint import PARTS, Checkpoint, Provenance, load_checkpoint, write_pth
from kokoro_coreml.checkpoint.onnx_export import _Names, read_onnx
from kokoro_coreml.checkpoint.packaged import packaged_config
from kokoro_coreml.checkpoint.schema import canonical
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.voices import load_voice
from tests.support.float_onnx import float_model
from tests.support.tiny import tiny_config

CONFIG = ModelConfig.from_json(packaged_config())
SENTENCES = ("həlˈO wˈɜɹld, ðɪs ɪz ɐ tˈɛst.", "sˈi", "bɔ̃ʒˈuʁ tu lə mˈɔ̃d; kɔ̃tˈɑ̃!")
DURATIONS = "/encoder/Cast_output_0"
PITCH = "/encoder/F0_proj/Conv_output_0"
HARMONICS = "/decoder/decoder/generator/Concat_3_output_0"
SPECTRUM = "/decoder/decoder/generator/conv_post/Conv_output_0"
FLOAT32_ROUNDING_DB = 90.0
"""Two float32 implementations of the same network; measured 117 dB and more."""

State = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def from_int8(onnx_bytes: bytes) -> State:
    return read_onnx(onnx_bytes, CONFIG, source="int8.onnx")[0]


@pytest.fixture(scope="module")
def float_bytes(onnx_bytes: bytes) -> bytes:
    data: bytes = float_model(onnx_bytes).SerializeToString()
    return data


@pytest.fixture(scope="module")
def upstream(from_int8: State) -> Any:
    state, _ = canonical(from_int8, CONFIG, source="int8.onnx")
    buffer = io.BytesIO()
    write_pth(Checkpoint(CONFIG, state, Provenance("onnx", "x", None, {}, "x")), buffer)
    buffer.seek(0)
    model: Any = KModel(repo_id="x", config=json.loads(packaged_config()), model=buffer)
    return model.eval()


def test_the_float_graph_gives_the_same_weights_as_the_int8_graph(
    from_int8: State, float_bytes: bytes
) -> None:
    state, notes = read_onnx(float_bytes, CONFIG, source="float.onnx")
    assert not any("dequantized" in note for note in notes)
    for part in PARTS:
        assert state[part].keys() == from_int8[part].keys()
        for key, value in state[part].items():
            assert torch.equal(value, from_int8[part][key]), f"{part}.{key}"


def test_the_half_precision_graph_gives_the_weights_rounded_once(
    from_int8: State, onnx_bytes: bytes
) -> None:
    narrow = float_model(onnx_bytes, dtype=np.float16).SerializeToString()
    state, _ = read_onnx(narrow, CONFIG, source="half.onnx")
    for part in PARTS:
        for key, value in state[part].items():
            assert torch.equal(value, from_int8[part][key].half().float()), f"{part}.{key}"


def test_nodes_without_names_are_found_by_their_weights_and_biases(
    from_int8: State, onnx_bytes: bytes
) -> None:
    model = onnx.load_model_from_string(onnx_bytes)
    linear = "encoder.predictor.duration_proj.linear_layer.bias"
    end = next(n for n in model.graph.node if linear in n.input)
    renamed = 0
    for node in model.graph.node:
        if "l_linear" in node.name or "duration_proj" in node.name or "adain" in node.name:
            node.name = ""
            renamed += 1
    assert end.name == ""
    assert renamed > 100
    state, _ = read_onnx(model.SerializeToString(), CONFIG, source="x.onnx")
    for part in PARTS:
        assert state[part].keys() == from_int8[part].keys()


def test_shared_layers_that_differ_are_refused(onnx_bytes: bytes) -> None:
    model = onnx.load_model_from_string(onnx_bytes)
    name = "onnx::MatMul_6548_3_quantized"
    old = next(t for t in model.graph.initializer if t.name == name)
    other = numpy_helper.to_array(old).copy()
    other[0, 0] += 1
    model.graph.initializer.append(numpy_helper.from_array(other, "onnx::MatMul_9999_quantized"))
    users = [n for n in model.graph.node if name in n.input]
    assert len(users) == 12
    users[5].input[1] = "onnx::MatMul_9999_quantized"
    with pytest.raises(CheckpointError, match=r"attention\.query\.weight stands twice"):
        read_onnx(model.SerializeToString(), CONFIG, source="x.onnx")


def test_upstream_with_these_weights_computes_what_onnxruntime_computes(
    float_bytes: bytes, upstream: Any
) -> None:
    """The int8 graph itself also rounds activations, so its float form is the reference."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = onnx.load_model_from_string(float_bytes)
    names = [DURATIONS, PITCH, HARMONICS, SPECTRUM]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    seen: dict[str, torch.Tensor] = {}
    generator = upstream.decoder.generator
    hooks = [
        upstream.decoder.register_forward_pre_hook(lambda _, a: seen.update(pitch=a[1])),
        generator.conv_post.register_forward_hook(lambda _, a, out: seen.update(spectrum=out)),
    ]
    voice = load_voice("af_heart")
    half = CONFIG.istftnet.gen_istft_n_fft // 2 + 1
    for phonemes in SENTENCES:
        style = voice.row(len(phonemes))
        ids = np.array([[0, *(CONFIG.vocab[p] for p in phonemes), 0]])
        feed = {"tokens": ids, "style": style, "speed": np.ones(1, np.float32)}
        durations, pitch, harmonics, spectrum = session.run(names, feed)
        given = torch.from_numpy(harmonics)
        # The sources differ in noise and in the branch of atan2; behind them all is comparable.
        generator.stft.transform = lambda _, h=given: (h[:, :half], h[:, half:])
        with torch.no_grad():
            out = upstream(phonemes, torch.from_numpy(style), return_output=True)
        assert np.array_equal(durations.ravel(), out.pred_dur.numpy())
        assert snr(reference=pitch.ravel(), candidate=seen["pitch"]) > FLOAT32_ROUNDING_DB
        assert snr(reference=spectrum.ravel(), candidate=seen["spectrum"]) > FLOAT32_ROUNDING_DB
    for hook in hooks:
        hook.remove()


def snr(*, reference: Any, candidate: torch.Tensor) -> float:
    error = reference - candidate.detach().numpy().ravel()
    return float(10 * np.log10(np.square(reference).sum() / np.square(error).sum()))


def test_config_of_another_size_is_refused_with_shapes(onnx_bytes: bytes) -> None:
    other = ModelConfig.from_dict(tiny_config())
    state, _ = read_onnx(onnx_bytes, other, source="k.onnx")
    with pytest.raises(CheckpointError, match=r"(?s)k\.onnx: .*expected shape \[.*found \["):
        canonical(state, other, source="k.onnx")


@pytest.mark.parametrize("keep", [0.3, 0.99999])
def test_truncated_graph_is_refused(onnx_bytes: bytes, keep: float) -> None:
    with pytest.raises(CheckpointError, match=r"k\.onnx: not an ONNX model, or truncated"):
        read_onnx(onnx_bytes[: int(len(onnx_bytes) * keep)], CONFIG, source="k.onnx")


def foreign() -> Any:
    weight = numpy_helper.from_array(np.ones((3, 3), np.float32), "fc1.weight")
    node = helper.make_node("MatMul", ["x", "fc1.weight"], ["y"], name="/fc1/MatMul")
    shape = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 3]) for n in ("x", "y")]
    return helper.make_model(helper.make_graph([node], "g", [shape[0]], [shape[1]], [weight]))


def test_foreign_graph_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"x\.onnx: this ONNX graph is not an export of"):
        read_onnx(foreign().SerializeToString(), CONFIG, source="x.onnx")


def test_weights_outside_the_file_are_refused() -> None:
    model = foreign()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(CheckpointError, match=r"1 weights lie outside the file \(fc1\.weight"):
        read_onnx(model.SerializeToString(), CONFIG, source="x.onnx")


def test_an_onnx_file_loads_with_its_licence_and_source(
    onnx_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOKORO_COREML_CACHE", str(tmp_path / "cache"))
    (tmp_path / "k.onnx").write_bytes(onnx_bytes)
    (tmp_path / "config.json").write_bytes(packaged_config())
    loaded = load_checkpoint(tmp_path / "k.onnx")
    assert (loaded.provenance.source, loaded.provenance.license) == ("onnx", "Apache-2.0")
    assert loaded.provenance.location == "k.onnx"


def test_a_name_is_found_by_the_longest_suffix_only_it_has() -> None:
    names = _Names({"text_encoder.lstm", "predictor.lstm", "predictor.F0.0.conv1", "bert.dense"})
    assert names.find("encoder.predictor.lstm") == "predictor.lstm"
    assert names.find("encoder.F0.0.conv1") == "predictor.F0.0.conv1"
    assert names.find("encoder.bert.dense_11") == "bert.dense"
    assert names.find("encoder.lstm") is None
    assert names.find("elsewhere") is None
