import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from mil_packages import close, floats, run, run_torch
from proofs import FROM_TORCH, NUMPY, TORCH, proves
from torch import nn

STEPS, BATCH, INPUT, HIDDEN = 7, 2, 3, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "scaled_tanh": np.tanh,
}


def numpy_lstm(x, h, c, wx, wh, b, *, peephole=None, clip=None, acts=("sigmoid", "tanh", "tanh")):
    """The equations of MIL's documentation; gate rows are i, f, o, z."""
    gate, inner, outer = (ACTIVATIONS[a] for a in acts)
    p = np.split(np.zeros(3 * h.shape[1]) if peephole is None else peephole, 3)
    steps = []
    for x_t in x:
        i, f, o, z = np.split(x_t @ wx.T + h @ wh.T + b, 4, axis=1)
        i, f = gate(i + c * p[0]), gate(f + c * p[1])
        c = f * c + i * inner(z)
        c = c if clip is None else np.clip(c, -clip, clip)
        h = gate(o + c * p[2]) * outer(c)
        steps.append(h)
    return [np.stack(steps).astype(np.float32), h.astype(np.float32), c.astype(np.float32)]


def lstm_inputs(directions=1):
    width = directions * HIDDEN
    return floats(STEPS, BATCH, INPUT), floats(BATCH, width, seed=1), floats(BATCH, width, seed=2)


def lstm_weights(seed=3):
    return (
        floats(4 * HIDDEN, INPUT, seed=seed),
        floats(4 * HIDDEN, HIDDEN, seed=seed + 1),
        floats(4 * HIDDEN, seed=seed + 2),
    )


@proves("lstm", against=TORCH, over="1 and 2 layers, one and two directions", source=FROM_TORCH)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_lstm_from_torch(bidirectional, layers):
    torch.manual_seed(0)
    module = nn.LSTM(INPUT, HIDDEN, layers, batch_first=True, bidirectional=bidirectional)
    x = floats(BATCH, STEPS, INPUT)
    outputs = run_torch(module, x, ops=["lstm"])
    with torch.inference_mode():
        steps, (h, c) = module(torch.from_numpy(x))
    for found, expected in zip(outputs, (steps, h, c), strict=True):
        close(found, expected.numpy())


@proves("lstm", against=NUMPY, over="all steps, gate order, initial states")
def test_lstm_gate_order_is_i_f_o_z():
    x, h, c = lstm_inputs()
    wx, wh, b = lstm_weights()
    body = lambda x, h, c: mb.lstm(  # noqa: E731
        x=x, initial_h=h, initial_c=c, weight_ih=wx, weight_hh=wh, bias=b, output_sequence=True
    )
    outputs = run(body, x, h, c, ops=["lstm"])
    for found, expected in zip(outputs, numpy_lstm(x, h, c, wx, wh, b), strict=True):
        close(found, expected)


@proves("lstm", against=NUMPY, over="no bias, last step only")
def test_lstm_without_bias_returns_the_last_step_by_default():
    x, h, c = lstm_inputs()
    wx, wh, _ = lstm_weights()
    body = lambda x, h, c: mb.lstm(  # noqa: E731
        x=x, initial_h=h, initial_c=c, weight_ih=wx, weight_hh=wh
    )
    steps, last_h, last_c = run(body, x, h, c, ops=["lstm"])
    _, expected_h, expected_c = numpy_lstm(x, h, c, wx, wh, 0)
    close(steps, expected_h[None])
    close(last_h, expected_h)
    close(last_c, expected_c)


@proves("lstm", against=NUMPY, over="two directions, with and without peephole and sequence")
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("peephole", [False, True])
def test_bidirectional_lstm_aligns_both_halves_with_the_input(sequence, peephole):
    x, h, c = lstm_inputs(2)
    forward, backward = lstm_weights(3), lstm_weights(9)
    p = (floats(3 * HIDDEN, seed=20), floats(3 * HIDDEN, seed=21)) if peephole else (None, None)
    extra = {"peephole": p[0], "peephole_back": p[1]} if peephole else {}

    def body(x, h, c):
        return mb.lstm(
            x=x,
            initial_h=h,
            initial_c=c,
            weight_ih=forward[0],
            weight_hh=forward[1],
            bias=forward[2],
            weight_ih_back=backward[0],
            weight_hh_back=backward[1],
            bias_back=backward[2],
            direction="bidirectional",
            output_sequence=sequence,
            **extra,
        )

    steps, last_h, last_c = run(body, x, h, c, ops=["lstm"])
    first = numpy_lstm(x, h[:, :HIDDEN], c[:, :HIDDEN], *forward, peephole=p[0])
    second = numpy_lstm(x[::-1], h[:, HIDDEN:], c[:, HIDDEN:], *backward, peephole=p[1])
    close(last_h, np.concatenate([first[1], second[1]], 1))
    close(last_c, np.concatenate([first[2], second[2]], 1))
    both = np.concatenate([first[0], second[0][::-1]], 2)
    close(steps, both if sequence else last_h[None])


@proves("lstm", against=NUMPY, over="direction reverse")
def test_reverse_lstm_returns_its_steps_in_the_order_they_were_computed():
    x, h, c = lstm_inputs()
    wx, wh, b = lstm_weights()

    def body(x, h, c):
        return mb.lstm(
            x=x,
            initial_h=h,
            initial_c=c,
            weight_ih=wx,
            weight_hh=wh,
            bias=b,
            direction="reverse",
            output_sequence=True,
        )

    outputs = run(body, x, h, c, ops=["lstm"])
    for found, expected in zip(outputs, numpy_lstm(x[::-1], h, c, wx, wh, b), strict=True):
        close(found, expected)


@proves("lstm", against=NUMPY, over="all activations, peephole, clip")
@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize(
    "acts", [("sigmoid", "tanh", "relu"), ("hard_sigmoid", "scaled_tanh", "linear")]
)
def test_lstm_with_other_activations_peephole_and_clip(acts, clip):
    x, h, c = lstm_inputs()
    wx, wh, b = lstm_weights()
    p = floats(3 * HIDDEN, seed=30)

    def body(x, h, c):
        return mb.lstm(
            x=x,
            initial_h=h,
            initial_c=c,
            weight_ih=wx,
            weight_hh=wh,
            bias=b,
            peephole=p,
            recurrent_activation=acts[0],
            cell_activation=acts[1],
            activation=acts[2],
            output_sequence=True,
            **({} if clip is None else {"clip": np.float32(clip)}),
        )

    outputs = run(body, x, h, c, ops=["lstm"])
    expected = numpy_lstm(x, h, c, wx, wh, b, peephole=p, clip=clip, acts=acts)
    for found, numbers in zip(outputs, expected, strict=True):
        close(found, numbers)


@proves("gru", "rnn", against=NUMPY, over="both directions, all steps")
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gru_and_rnn_follow_their_equations(direction):
    x, h, _ = lstm_inputs()
    wx, wh = floats(3 * HIDDEN, INPUT, seed=3), floats(3 * HIDDEN, HIDDEN, seed=4)
    b = floats(3 * HIDDEN, seed=5)

    def body(x, h):
        common = {"x": x, "initial_h": h, "direction": direction, "output_sequence": True}
        gru = mb.gru(weight_ih=wx, weight_hh=wh, bias=b, **common)
        rnn = mb.rnn(weight_ih=wx[:HIDDEN], weight_hh=wh[:HIDDEN], bias=b[:HIDDEN], **common)
        return (*gru, *rnn)

    gru_steps, gru_h, rnn_steps, rnn_h = run(body, x, h, ops=["gru", "rnn"])
    gru, rnn, steps = h, h, []
    for x_t in x if direction == "forward" else x[::-1]:
        (xr, xo, xz), (wr, wo, wz) = np.split(x_t @ wx.T + b, 3, 1), np.split(wh, 3)
        r, z = sigmoid(xr + gru @ wr.T), sigmoid(xz + gru @ wz.T)
        gru = (1 - z) * np.tanh(xo + (r * gru) @ wo.T) + z * gru
        rnn = np.tanh(x_t @ wx[:HIDDEN].T + rnn @ wh[:HIDDEN].T + b[:HIDDEN])
        steps.append((gru, rnn))
    close(gru_h, gru.astype(np.float32))
    close(rnn_h, rnn.astype(np.float32))
    close(gru_steps, np.stack([s[0] for s in steps]).astype(np.float32))
    close(rnn_steps, np.stack([s[1] for s in steps]).astype(np.float32))


@proves("gru", against=TORCH, over="iOS 18: reset_after with input_bias")
def test_gru_with_reset_after_is_the_gru_of_torch():
    torch.manual_seed(0)
    module = nn.GRU(INPUT, HIDDEN)
    x, h, _ = lstm_inputs()

    def ours(rows):
        r, z, o = rows.detach().chunk(3)
        return torch.cat((r, o, z)).numpy()

    def body(x, h):
        return mb.gru(
            x=x,
            initial_h=h,
            weight_ih=ours(module.weight_ih_l0),
            weight_hh=ours(module.weight_hh_l0),
            input_bias=ours(module.bias_ih_l0),
            bias=ours(module.bias_hh_l0),
            reset_after=True,
            output_sequence=True,
        )

    found = run(body, x, h, ops=["gru"], ios=18)
    with torch.inference_mode():
        steps, last = module(torch.from_numpy(x), torch.from_numpy(h)[None])
    close(found[0], steps.numpy())
    close(found[1], last[0].numpy())


@proves("gru", against=NUMPY, over="iOS 18: input_bias alone; other activations; last step only")
def test_gru_adds_input_bias_to_bias_unless_reset_after():
    x, h, _ = lstm_inputs()
    wx, wh = floats(3 * HIDDEN, INPUT, seed=3), floats(3 * HIDDEN, HIDDEN, seed=4)
    b, extra = floats(3 * HIDDEN, seed=5), floats(3 * HIDDEN, seed=6)

    def body(x, h):
        common = {"x": x, "initial_h": h, "weight_ih": wx, "weight_hh": wh}
        common |= {"recurrent_activation": "hard_sigmoid", "activation": "relu"}
        return (
            *mb.gru(bias=b, input_bias=extra, **common),
            *mb.gru(bias=b + extra, output_sequence=True, **common),
        )

    last, last_h, steps, steps_h = run(body, x, h, ops=["gru"], ios=18)
    close(last, steps[-1:])
    close(last_h, steps_h)


@proves("rnn", against=TORCH, over="activations tanh and relu, 2 layers", source=FROM_TORCH)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn_from_torch(activation):
    torch.manual_seed(0)
    module = nn.RNN(INPUT, HIDDEN, 2, nonlinearity=activation)
    x, h = floats(STEPS, BATCH, INPUT), floats(2, BATCH, HIDDEN, seed=1)
    found = run_torch(module, x, h, ops=["rnn"])
    with torch.inference_mode():
        expected = module(torch.from_numpy(x), torch.from_numpy(h))
    for numbers, tensor in zip(found, expected, strict=True):
        close(numbers, tensor.numpy())
