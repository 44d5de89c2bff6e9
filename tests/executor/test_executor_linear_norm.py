import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from mil_packages import close, floats, run
from proofs import NUMPY, proves


def numpy_norm(x, axes, epsilon):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@proves("layer_norm", against=NUMPY, over="any axes, with and without gamma and beta")
@pytest.mark.parametrize("axes", [[2], [-1], [1, 2], [0, 1, 2], [1], [0]])
def test_layer_norm_over_any_axes(axes):
    x = floats(2, 3, 4)
    shape = [x.shape[a] for a in axes]
    gamma, beta = floats(*shape, seed=1), floats(*shape, seed=2)

    def body(x):
        return (
            mb.layer_norm(x=x, axes=axes),
            mb.layer_norm(x=x, axes=axes, gamma=gamma, beta=beta, epsilon=np.float32(0.1)),
        )

    plain, scaled = run(body, x, ops=["layer_norm"])
    view = [n if d in [a % 3 for a in axes] else 1 for d, n in enumerate(x.shape)]
    close(plain, numpy_norm(x, tuple(axes), 1e-5), 1e-5)
    expected = numpy_norm(x, tuple(axes), 0.1) * gamma.reshape(view) + beta.reshape(view)
    close(scaled, expected.astype(np.float32))


@proves("instance_norm", against=NUMPY, over="biased variance, a single position, given epsilon")
def test_instance_norm_uses_the_biased_variance_and_allows_one_position():
    x, one, gamma, beta = floats(2, 3, 6), floats(2, 3, 1), floats(3, seed=1), floats(3, seed=2)

    def body(x, one):
        return (
            mb.instance_norm(x=x, gamma=gamma, beta=beta),
            mb.instance_norm(x=x, epsilon=np.float32(0.5)),
            mb.instance_norm(x=one),
        )

    scaled, plain, single = run(body, x, one, ops=["instance_norm"])
    close(scaled, numpy_norm(x, (2,), 1e-5) * gamma[:, None] + beta[:, None], 2e-5)
    close(plain, numpy_norm(x, (2,), np.float32(0.5)))
    assert not single.any()


@proves(
    "batch_norm", "l2_norm", "local_response_norm", against=NUMPY, over="rank 4, given parameters"
)
def test_batch_l2_and_local_response_norm():
    x = floats(2, 3, 4, 5)
    mean, variance = floats(3, seed=1), floats(3, seed=2, low=0.1)
    gamma, beta = floats(3, seed=3), floats(3, seed=4)

    def body(x):
        return (
            mb.batch_norm(x=x, mean=mean, variance=variance, gamma=gamma, beta=beta),
            mb.l2_norm(x=x, epsilon=np.float32(0.01)),
            mb.local_response_norm(x=x, size=3, alpha=0.5, beta=0.6, k=1.5),
        )

    batch, l2, local = run(body, x, ops=["batch_norm", "l2_norm", "local_response_norm"])
    at = lambda p: p.reshape(1, 3, 1, 1)  # noqa: E731
    expected = (x - at(mean)) / np.sqrt(at(variance) + 1e-5) * at(gamma) + at(beta)
    close(batch, expected.astype(np.float32))
    norm = np.sqrt((x**2).sum((1, 2, 3), keepdims=True) + np.float32(0.01))
    close(l2, x / norm)
    padded = np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    total = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    close(local, (x / (1.5 + 0.5 / 3 * total) ** 0.6).astype(np.float32))


@proves("linear", against=NUMPY, over="rank 3, with and without bias")
def test_linear_with_and_without_bias():
    x, w, b = floats(2, 5, 3), floats(4, 3, seed=1), floats(4, seed=2)
    outputs = run(
        lambda x: (mb.linear(x=x, weight=w, bias=b), mb.linear(x=x, weight=w)), x, ops=["linear"]
    )
    close(outputs[0], x @ w.T + b)
    close(outputs[1], x @ w.T)


@proves("matmul", against=NUMPY, over="transposed operands, broadcast batches, a vector")
@pytest.mark.parametrize(
    ("x_shape", "y_shape", "tx", "ty"),
    [
        ((3, 4), (4, 2), False, False),
        ((4, 3), (4, 2), True, False),
        ((4, 3), (2, 4), True, True),
        ((10, 4, 3), (5, 10, 3, 2), False, False),
        ((1, 3, 4), (6, 2, 4), False, True),
        ((4,), (4, 3), False, False),
    ],
)
def test_matmul_transposes_and_broadcasts(x_shape, y_shape, tx, ty):
    x, y = floats(*x_shape), floats(*y_shape, seed=1)
    body = lambda x, y: mb.matmul(x=x, y=y, transpose_x=tx, transpose_y=ty)  # noqa: E731
    (found,) = run(body, x, y, ops=["matmul"])
    left = np.swapaxes(x, -1, -2) if tx else x
    right = np.swapaxes(y, -1, -2) if ty else y
    close(found, np.matmul(left, right))


@proves("einsum", against=NUMPY, over="the equations MIL documents, rank 3 and 4, broadcasting")
@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [
        ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
        ("nchw,nwhu->nchu", (1, 3, 4, 5), (2, 5, 1, 6)),
        ("chw,whr->chr", (3, 4, 5), (5, 4, 6)),
    ],
)
def test_einsum(equation, a, b):
    x, y = floats(*a), floats(*b, seed=1)
    (found,) = run(lambda x, y: mb.einsum(values=(x, y), equation=equation), x, y, ops=["einsum"])
    batch = (..., slice(None), slice(None))
    left, right = np.swapaxes(x, -2, -3)[batch], np.swapaxes(y, -2, -3)[batch]
    close(found, np.swapaxes(np.matmul(left, right), -2, -3))


@proves(
    "scaled_dot_product_attention",
    against="torch and numpy definition",
    over="float and boolean masks, a value of another width",
)
def test_attention_with_float_and_boolean_masks():
    q, k, v, m = (
        floats(1, 2, 3, 4),
        floats(1, 2, 5, 4, seed=1),
        floats(1, 2, 5, 6, seed=2),
        floats(3, 5),
    )

    def body(q, k, v, m):
        keep = mb.greater(x=m, y=np.float32(-1))
        attend = lambda mask: mb.scaled_dot_product_attention(  # noqa: E731
            query=q, key=k, value=v, attn_mask=mask
        )
        return attend(m), attend(keep)

    biased, masked = run(body, q, k, v, m, ops=["scaled_dot_product_attention"], ios=18)
    t = [torch.from_numpy(a) for a in (q, k, v)]
    close(biased, F.scaled_dot_product_attention(*t, attn_mask=torch.from_numpy(m)).numpy())
    scores = q @ np.swapaxes(k, -1, -2) / 2
    weights = np.exp(np.where(m > -1, scores, -np.inf))
    close(masked, (weights / weights.sum(-1, keepdims=True) @ v).astype(np.float32))
