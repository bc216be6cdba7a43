"""How a trajectory is computed and differentiated: fused numba kernels on the CPU, a plain torch loop elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.networks import cells
from nwb_lrrnn.models.networks.cells import Cell
from nwb_lrrnn.models.training.devices import N_CHUNKS, arrays, use_kernels
from nwb_lrrnn.models.training.threads import over_ranges


class Drive(NamedTuple):
    """What drives W windows of at most T steps: how long each is, and its inputs (I may be 0)."""

    lengths: Tensor  # (window,), int64
    filtered: Tensor  # v (1 or S, window, T, I)
    raw: Tensor  # u (window, T, I)


def trajectory(name: str, cell: Cell, start: Tensor, drive: Drive, *, kernels: bool | None = None) -> Tensor:
    """Return latents (S, window, T, R) from start (S, window, R); 0 at and beyond a window's length.

    Differentiable in the cell, the start and v. `kernels` overrides the choice of path.
    """
    if use_kernels(start) if kernels is None else kernels:
        return _FusedScan.apply(name, drive.lengths, drive.raw, drive.filtered, start, *cell)  # type: ignore[no-any-return]
    z, inside = start, drive.lengths
    path = [z]
    for t in range(drive.raw.shape[1] - 1):
        z = cells.step(name, cell, z, drive.filtered[:, :, t], drive.raw[:, t])
        # zeroed at once, so that nothing grows in the padding
        z = torch.where((t + 1 < inside)[None, :, None], z, torch.zeros((), dtype=z.dtype, device=z.device))
        path.append(z)
    return torch.stack(path, dim=2)


@torch.no_grad()
def pulled_back(
    name: str,
    cell: Cell,
    z: Tensor,
    drive: Drive,
    gradient: Tensor,
    information: Tensor,
    *,
    kernels: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what observations along a window say of its first latent.

    Parameters
    ----------
    z : Tensor (S, window, T, R)
        The trajectory.
    gradient, information : Tensors (S, window, T, R) and (S, window, T, R, R)
        Of each step's log-likelihood in z_t; 0 beyond a window's length.

    Returns
    -------
    Both summed and pulled back to the start, (S, window, R) and (S, window, R, R), and the Jacobian
    (S, window, R, R) of the window's last latent in its first.
    """
    if use_kernels(z) if kernels is None else kernels:
        return _fused_pull_back(name, cell, z, drive, gradient, information)
    rank = z.shape[-1]
    eye = torch.eye(rank, dtype=z.dtype, device=z.device)
    g = gradient[:, :, -1]
    h = information[:, :, -1]
    to_last = eye.expand(*h.shape)
    for t in range(z.shape[2] - 2, -1, -1):
        jac = cells.jacobian(name, cell, z[:, :, t], drive.filtered[:, :, t])
        jac = torch.where((t + 1 < drive.lengths)[None, :, None, None], jac, eye)
        g = gradient[:, :, t] + torch.matmul(jac.mT, g[..., None])[..., 0]
        h = information[:, :, t] + jac.mT @ h @ jac
        to_last = to_last @ jac
    return g, h, to_last


class _FusedScan(torch.autograd.Function):
    """`trajectory` by the fused kernels and their hand-written adjoint."""

    @staticmethod
    def forward(ctx, name, lengths, raw, v, start, *cell):  # type: ignore[override]
        from nwb_lrrnn.models.kernels import activations
        from nwb_lrrnn.models.kernels import trajectory as kernels

        left, right, bias, thresholds, weights, drive, latent_weights, alpha = arrays(cell)
        code = activations.CODES[name]
        v, u = arrays((v, raw))
        z = np.zeros((*start.shape[:2], v.shape[2], start.shape[2]))
        (z[:, :, 0],) = arrays((start,))
        fixed = (code, z, lengths.numpy(), v, u, left, right, weights, bias, thresholds)
        n_windows, n_neurons = z.shape[0] * z.shape[1], left.shape[1]
        fixed_too = (drive, latent_weights, alpha)
        over_ranges(lambda a, b: kernels.forward(a, b, *fixed, *fixed_too), n_windows, z.size * n_neurons)
        ctx.fixed, ctx.alpha = fixed, alpha
        ctx.shapes = (drive.shape, latent_weights.shape)
        ctx.dtype = start.dtype
        return torch.from_numpy(z).to(start.dtype)

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        from nwb_lrrnn.models.kernels import trajectory as kernels

        code, z, lengths, v, u, left, right, weights, bias, thresholds = ctx.fixed
        nets, windows, steps, rank = z.shape
        chunks = min(N_CHUNKS, windows)
        like = (left.shape, right.shape, weights.shape, bias.shape, thresholds.shape, *ctx.shapes, ctx.alpha.shape)
        sums = [np.zeros((shape[0], chunks, *shape[1:])) for shape in like]
        dstart, dv = np.zeros((nets, windows, rank)), np.zeros((nets, windows, steps, v.shape[3]))
        fixed = [chunks, code, z, *arrays(grads), lengths, v, u, left, right, weights, bias, thresholds, ctx.alpha]
        outputs = [*sums, dstart, dv]
        over_ranges(lambda a, b: kernels.adjoint(a, b, *fixed, *outputs), nets * chunks, z.size * left.shape[1])
        dv = dv if len(v) == nets else dv.sum(0, keepdims=True)
        dm, dn, dweights, dbias, dh, ddrive, dlatent, dalpha = (a.sum(1) for a in sums)
        grads = (dv, dstart, dm, dn, dbias, dh, dweights, ddrive, dlatent, dalpha)
        return None, None, None, *(torch.from_numpy(a).to(ctx.dtype) for a in grads)


def _fused_pull_back(name, cell, z, drive, gradient, information):
    from nwb_lrrnn.models.kernels import activations
    from nwb_lrrnn.models.kernels import trajectory as kernels

    left, right, bias, thresholds, weights, _, _, alpha = arrays(cell)
    path, v, g, h = arrays((z, drive.filtered, gradient, information))
    lengths, code = drive.lengths.numpy(), activations.CODES[name]
    jac, total_g, total_h, to_last = (
        np.zeros_like(h),
        np.zeros_like(g[:, :, 0]),
        np.zeros_like(h[:, :, 0]),
        np.zeros_like(h[:, :, 0]),
    )

    def run(a: int, b: int) -> None:
        kernels.tangent(a, b, code, path, lengths, v, left, right, weights, bias, thresholds, alpha, jac)
        kernels.pull_back(a, b, jac, lengths, g, h, total_g, total_h, to_last)

    over_ranges(run, path.shape[0] * path.shape[1], path.size * left.shape[1])
    total_g, total_h, to_last = (torch.from_numpy(a).to(z.dtype) for a in (total_g, total_h, to_last))
    return total_g, total_h, to_last
