"""The fused kernels against the torch loop, the torch cell against `LowRankDynamics`, and finite differences."""

import numpy as np
import pytest
import torch

from nwb_lrrnn.dynamics import NONLINEARITIES, LowRankDynamics
from nwb_lrrnn.models.networks import cells, scan
from nwb_lrrnn.models.networks.cells import Cell
from nwb_lrrnn.models.networks.scan import Drive


def problem(seed=0, nets=2, windows=5, steps=17, rank=3, neurons=11, inputs=2, dtype=torch.float64, device="cpu"):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return torch.tensor(rng.normal(size=shape), dtype=dtype, device=device)

    cell = Cell(
        draw(nets, rank, neurons), 2 * draw(nets, rank, neurons), draw(nets, neurons), draw(nets, neurons),
        draw(nets, inputs, neurons), draw(nets, rank), draw(nets, rank, inputs),
        torch.linspace(0.1, 0.9, nets, dtype=dtype, device=device),
    )  # fmt: skip
    lengths = torch.tensor(rng.integers(1, steps + 1, size=windows), device=device)
    lengths[0] = steps
    drive = Drive(lengths, draw(nets, windows, steps, inputs), draw(windows, steps, inputs))
    return cell, draw(nets, windows, rank), drive


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("inputs", [0, 2])
def test_fused_trajectory_and_gradients_equal_torch(name, inputs):
    cell, start, drive = problem(inputs=inputs)
    weight = torch.tensor(np.random.default_rng(1).normal(size=(2, 5, 17, 3)))
    results = []
    for kernels in (True, False):
        leaves = [t.clone().requires_grad_() for t in (*cell, start, drive.filtered)]
        path = Drive(drive.lengths, leaves[-1], drive.raw)
        z = scan.trajectory(name, Cell(*leaves[:8]), leaves[8], path, kernels=kernels)
        (z * weight).sum().backward()
        results.append((z.detach(), [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves]))
    (z_a, grads_a), (z_b, grads_b) = results
    torch.testing.assert_close(z_a, z_b, rtol=1e-9, atol=1e-9)
    for a, b in zip(grads_a, grads_b, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "erf", "softplus"])
def test_hand_written_adjoint_passes_gradcheck(name):
    cell, start, drive = problem(nets=1, windows=2, steps=5, rank=2, neurons=4, inputs=1)
    leaves = tuple(t.clone().requires_grad_() for t in (*cell, start))
    assert torch.autograd.gradcheck(
        lambda *p: scan.trajectory(name, Cell(*p[:8]), p[8], drive, kernels=True), leaves, atol=1e-7, rtol=1e-6
    )


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_pulled_back_information_equals_torch_and_autograd(name):
    cell, start, drive = problem(inputs=1)
    z = scan.trajectory(name, cell, start, drive)
    rng = np.random.default_rng(2)
    root = torch.tensor(rng.normal(size=(*z.shape, 3)))
    inside = (torch.arange(17)[None, :] < drive.lengths[:, None])[None, :, :, None]
    gradient = torch.tensor(rng.normal(size=z.shape)) * inside
    information = (root @ root.mT) * inside[..., None]
    fused = scan.pulled_back(name, cell, z, drive, gradient, information, kernels=True)
    plain = scan.pulled_back(name, cell, z, drive, gradient, information, kernels=False)
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    leaf = start.clone().requires_grad_()
    (scan.trajectory(name, cell, leaf, drive, kernels=False) * gradient).sum().backward()
    torch.testing.assert_close(fused[0], leaf.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_torch_step_and_jacobian_equal_dynamics(name):
    cell, start, drive = problem(nets=1)
    m, n, b, h, weights, s, latent_weights, alpha = (t[0].numpy() for t in cell)
    net = LowRankDynamics(
        m.T, n.T, dt=0.1, tau=0.1 / alpha, nonlinearity=name, bias=b, thresholds=h, input_weights=weights.T, drive=s,
        latent_input_weights=latent_weights,
    )  # fmt: skip
    v, u = drive.filtered[:, :, 0], drive.raw[:, 0]
    ours = cells.step(name, cell, start, v, u)[0].numpy()
    np.testing.assert_allclose(ours, net.step(start[0].numpy(), v[0].numpy(), u.numpy()), rtol=1e-12, atol=1e-12)
    jac = cells.jacobian(name, cell, start, v)[0].numpy()
    np.testing.assert_allclose(jac, net.jacobian(start[0].numpy(), v[0].numpy()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_every_cell_runs_on_the_meta_device_without_a_host_sync(name):
    cell, start, drive = problem()
    cell = Cell(*(t.to("meta").requires_grad_() for t in cell))
    drive = Drive(*(t.to("meta") for t in drive))
    z = scan.trajectory(name, cell, start.to("meta"), drive)
    z.sum().backward()
    assert cell.left_vectors.grad is not None
    scan.pulled_back(name, cell, z, drive, z, z[..., None] * z[..., None, :])


def test_divergence_shows_as_non_finite():
    cell, start, drive = problem(nets=1)
    z = scan.trajectory("tanh", cell, start * float("nan"), drive)
    assert torch.isnan(z[0, 0]).all()


def test_filtered_inputs_equal_dynamics():
    u = torch.tensor(np.random.default_rng(0).normal(size=(2, 9, 1)))
    net = LowRankDynamics([[1.0]], [[1.0]], dt=0.2, tau=1.0, input_weights=[[1.0]], filter_inputs=True)
    ours = cells.filtered(torch.tensor([0.2], dtype=torch.float64), u)[0].numpy()
    np.testing.assert_allclose(ours, net.filtered_inputs(u.numpy()), atol=1e-14)


@pytest.mark.cuda
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_cuda_trajectory_equals_cpu(name):
    cell, start, drive = problem()
    z = scan.trajectory(name, cell, start, drive)
    on_gpu = scan.trajectory(name, Cell(*(t.cuda() for t in cell)), start.cuda(), Drive(*(t.cuda() for t in drive)))
    torch.testing.assert_close(z, on_gpu.cpu(), rtol=1e-9, atol=1e-9)
