import math

import numpy as np
import pytest
import torch

from siamkd_core.losses.target_response import (
    attention,
    target_response,
    target_weighted,
    target_weights,
)


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def networks(count: int = 3, h: int = 4, size: int = 7):
    """Features of exemplar and search of a student of 2 and a teacher of 3 channels."""
    return (
        features(count, 2, h, h, seed=1),
        features(count, 2, size, size, seed=2),
        features(count, 3, h, h, seed=3),
        features(count, 3, size, size, seed=4),
    )


def attention_by_loops(u):
    channels, height, width = u.shape
    out = np.zeros((height, width))
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                out[i, j] += abs(u[c, i, j])
    return out


def weights_by_loops(z, x):
    """W at cell (i, j): the exemplar laid with its middle there, what is outside counting nothing;
    where its middle cannot be there, the mean of the four ways to lay it that are nearest."""
    h, w = z.shape[1:]
    height, width = x.shape[1:]
    rows, columns = ([0, -1] if side % 2 == 0 else [0] for side in (h, w))
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            laid = []
            for down in rows:
                for right in columns:
                    # the exemplar's middle lies between its cells h/2 - 1 and h/2 if h is even
                    top, left = i - (h // 2) - down, j - (w // 2) - right
                    total = 0.0
                    for c in range(z.shape[0]):
                        for a in range(h):
                            for b in range(w):
                                if 0 <= top + a < height and 0 <= left + b < width:
                                    total += z[c, a, b] * x[c, top + a, left + b]
                    laid.append(total)
            out[i, j] = sum(laid) / len(laid)
    return out


def unit(values):
    length = math.sqrt(sum(v * v for v in values.flat))
    return values / length


def loss_by_loops(sz, sx, tz, tx):
    values = []
    for one in zip(*(v.numpy() for v in (sz, sx, tz, tx)), strict=True):
        (z, x), (tz_, tx_) = one[:2], one[2:]
        near = unit(attention_by_loops(z)) - unit(attention_by_loops(tz_))
        weighted = [weights_by_loops(a, b) * b for a, b in ((z, x), (tz_, tx_))]
        far = unit(attention_by_loops(weighted[0])) - unit(attention_by_loops(weighted[1]))
        values.append(sum(d * d for d in near.flat) + sum(d * d for d in far.flat))
    return values


def test_golden_attention():
    u = features(2, 3, 4, 5)
    expected = np.stack([attention_by_loops(one) for one in u.numpy()])
    np.testing.assert_allclose(attention(u).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("h", "w"), [(4, 4), (3, 3), (2, 3)])
def test_golden_weights(h, w):
    z, x = features(2, 3, h, w, seed=1), features(2, 3, 6, 7, seed=2)
    found = target_weights(z, x)
    assert found.shape == (2, 1, 6, 7)
    for one, exemplar, search in zip(found.numpy(), z.numpy(), x.numpy(), strict=True):
        np.testing.assert_allclose(one[0], weights_by_loops(exemplar, search), atol=1e-12)
    torch.testing.assert_close(target_weighted(z, x), found * x)


def test_golden():
    one = networks()
    loss = target_response(*one)
    assert loss.dtype == torch.float64
    assert loss.tolist() == pytest.approx(loss_by_loops(*one), rel=1e-10)


def test_the_weights_peak_at_the_middle_of_the_target():
    """An exemplar that lies in the search region at rows 8..13, columns 3..8: its middle is between
    cells 10 and 11, 5 and 6, and the four cells around it weigh the same."""
    z = features(1, 8, 6, 6)
    x = torch.zeros(1, 8, 22, 22, dtype=torch.float64)
    x[:, :, 8:14, 3:9] = z
    weights = target_weights(z, x)[0, 0]
    highest = torch.zeros(22, 22, dtype=torch.bool)
    highest[10:12, 5:7] = True
    # each of the four has a quarter of the full match; the rest comes from neighbours
    assert set(weights.flatten().topk(4).indices.tolist()) == set(
        highest.flatten().nonzero().flatten().tolist()
    )


def test_the_weights_turn_with_the_picture():
    z, x = features(1, 3, 6, 6, seed=1), features(1, 3, 9, 9, seed=2)
    for dims in ((2,), (3,), (2, 3)):
        turned = target_weights(z.flip(dims), x.flip(dims))
        torch.testing.assert_close(turned, target_weights(z, x).flip(dims))


def test_a_network_that_is_its_own_teacher_has_nothing_to_learn():
    z, x, *_ = networks()
    assert target_response(z, x, z, x).tolist() == [0, 0, 0]


def test_a_factor_of_all_features_changes_nothing():
    z, x, tz, tx = networks()
    expected = target_response(z, x, tz, tx)
    torch.testing.assert_close(target_response(5 * z, 5 * x, tz, tx), expected)
    torch.testing.assert_close(target_response(z, x, 0.01 * tz, 0.01 * tx), expected)
    wide = [v.repeat(1, 4, 1, 1) for v in (z, x)]  # the same network, each channel four times
    torch.testing.assert_close(target_response(*wide, tz, tx), expected)


def test_the_loss_of_a_sample_does_not_depend_on_its_batch():
    one = networks()
    alone = [target_response(*(v[i : i + 1] for v in one)).item() for i in range(3)]
    assert target_response(*one).tolist() == pytest.approx(alone)


def test_the_gradient_reaches_the_student_only():
    one = [v.requires_grad_() for v in networks()]
    target_response(*one).sum().backward()
    assert all(v.grad.abs().max() > 0 for v in one[:2])
    assert all(v.grad is None for v in one[2:])


def test_gradcheck():
    z, x, tz, tx = networks(1, 2, 3)
    # features near 0 are at the kink of the absolute value
    z, x = (torch.where(v.abs() < 0.05, 0.1, v).requires_grad_() for v in (z, x))
    assert torch.autograd.gradcheck(lambda a, b: target_response(a, b, tz, tx), (z, x))


def test_a_dead_student_has_a_finite_loss_and_gradient():
    *_, tz, tx = networks()
    z, x = (torch.zeros_like(v[:, :1]).requires_grad_() for v in (tz, tx))
    loss = target_response(z, x, tz, tx)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([2, 2, 2])
    assert z.grad.isfinite().all() and x.grad.isfinite().all()


def test_half_precision_is_computed_in_float32_also_under_autocast():
    half = [v.bfloat16() for v in networks()]
    expected = target_response(*(v.float() for v in half))
    with torch.autocast("cpu", torch.bfloat16):
        loss = target_response(*half)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_another_geometry_is_refused():
    z, x, tz, tx = networks()
    with pytest.raises(ValueError, match=r"search regions.*\(3, 2, 6, 7\).*kernels"):
        target_response(z, x[:, :, 1:], tz, tx)
    with pytest.raises(ValueError, match="exemplars"):
        target_response(z[:2], x, tz, tx)
    with pytest.raises(ValueError, match="2 exemplars"):
        target_weighted(z[:2], x)
