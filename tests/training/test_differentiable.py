"""The simulated instruments in torch: the same as in plain arrays, and differentiable."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from autoexp.training.instruments import MESSY, Instruments

torch = pytest.importorskip("torch")
differentiable = pytest.importorskip("autoexp.training.differentiable")

STILL = dataclasses.replace(MESSY, action_noise=(1e-12, 1e-12), read_noise_px=0.0)


def both(ranges=STILL, n=40):
    instruments = Instruments(ranges, n, seed=3)
    return instruments, differentiable.TorchInstruments(instruments, dtype=torch.float64)


def test_without_noise_it_does_what_the_plain_one_does():
    instruments, twin = both()
    disks, rng = twin.disks, np.random.default_rng(0)
    for _ in range(6):
        moves = rng.uniform(-30, 30, (40, 2))
        instruments.move(moves, np.ones(40, bool))
        disks = twin.move(disks, torch.as_tensor(moves))
        np.testing.assert_allclose(disks.positions, instruments.positions, atol=1e-6)
        np.testing.assert_array_equal(disks.seen, instruments.seen)
    seen = instruments.seen
    np.testing.assert_array_equal(twin.measure(disks).numpy()[seen], instruments.measure()[seen])


def test_noise_is_as_large_as_in_the_plain_one():
    noisy = dataclasses.replace(MESSY, action_noise=(0.05, 0.05), read_noise_px=1e-9, rounded=False)
    instruments, twin = both(noisy, n=4000)
    still, silent = both(dataclasses.replace(noisy, action_noise=(1e-12, 1e-12)), n=4000)
    moves = np.full((4000, 2), 20.0)
    instruments.move(moves, np.ones(4000, bool))
    still.move(moves, np.ones(4000, bool))
    here, quiet = (t.move(t.disks, torch.as_tensor(moves)).positions for t in (twin, silent))
    there = instruments.positions - still.positions
    assert float((here - quiet).std()) == pytest.approx(there.std(), rel=0.05)


def test_gradients_flow_through_many_moves_and_through_rounding():
    _, twin = both(n=10)
    moves = torch.zeros((3, 10, 2), dtype=torch.float64, requires_grad=True)

    def cost(moves):
        disks = twin.disks
        for move in moves:
            disks = twin.move(disks, move)
        return (disks.positions - twin.goals).square().sum()

    assert torch.autograd.gradcheck(lambda m: cost(m), (moves + 1.0).detach().requires_grad_(), atol=1e-3, rtol=1e-3)
    measured = (twin.measure(twin.move(twin.disks, moves[0])) - twin.goals).square().sum()
    (gradient,) = torch.autograd.grad(measured, moves)
    assert (gradient[0].abs() > 0).all()


def test_following_the_gradient_aligns():
    """A plan of two moves by descent through the simulation brings every disk nearer."""
    _, twin = both(n=30)
    moves = torch.zeros((2, 30, 2), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([moves], lr=3.0)
    for _ in range(150):
        disks = twin.disks
        for move in moves:
            disks = twin.move(disks, move)
        loss = (disks.positions - twin.goals).square().sum(dim=1)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    assert float(loss.detach().max().sqrt()) < 5
