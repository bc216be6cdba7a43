"""How a trajectory is computed and differentiated: fused numba kernels on the CPU, a plain torch loop elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nwb_lrrnn.models import cells
from nwb_lrrnn.models.cells import Cell


class Drive(NamedTuple):
    """What drives W windows of at most T steps: how long each is, and its inputs (I may be 0)."""

    lengths: Tensor  # (window,), int64
    filtered: Tensor  # v (1 or S, window, T, I)
    raw: Tensor  # u (window, T, I)


def use_kernels(tensor: Tensor) -> bool:
    """Return whether the fused kernels serve this tensor: float64 on the CPU."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float64


def trajectory(name: str, cell: Cell, start: Tensor, drive: Drive, *, kernels: bool | None = None) -> Tensor:
    """Return latents (S, window, T, R) from start (S, window, R); 0 at and beyond a window's length.

    Differentiable in the cell, the start and v. `kernels` overrides the choice of path.
    """
    if use_kernels(start) if kernels is None else kernels:
        return _Fused.apply(name, drive.lengths, drive.raw, drive.filtered, start, *cell)  # type: ignore[no-any-return]
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


class _Fused(torch.autograd.Function):
    """`trajectory` by the fused kernels and their hand-written adjoint."""

    @staticmethod
    def forward(ctx, name, lengths, raw, v, start, *cell):  # type: ignore[override]
        from nwb_lrrnn.models.kernels import activations
        from nwb_lrrnn.models.kernels import trajectory as kernels

        left, right, bias, thresholds, weights, drive, latent_weights, alpha = _arrays(cell)
        code = activations.CODES[name]
        arrays = (
            lengths.numpy(),
            *_arrays((v, raw)),
            left,
            right,
            weights,
            bias,
            thresholds,
            drive,
            latent_weights,
            alpha,
        )
        z = torch.from_numpy(kernels.forward(code, *_arrays((start,)), *arrays))
        ctx.code, ctx.arrays = code, arrays
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        from nwb_lrrnn.models.kernels import trajectory as kernels

        (z,) = ctx.saved_tensors
        out = kernels.adjoint(ctx.code, z.numpy(), *_arrays(grads), *ctx.arrays)
        dstart, dv = (torch.from_numpy(a) for a in out[:2])
        # chunks summed in order: the result does not depend on the number of threads
        dm, dn, dweights, dbias, dh, ddrive, dlatent, dalpha = (torch.from_numpy(a.sum(1)) for a in out[2:])
        if ctx.arrays[1].shape[0] == 1:
            dv = dv.sum(0, keepdim=True)
        return None, None, None, dv, dstart, dm, dn, dbias, dh, dweights, ddrive, dlatent, dalpha


def _fused_pull_back(name, cell, z, drive, gradient, information):
    from nwb_lrrnn.models.kernels import activations
    from nwb_lrrnn.models.kernels import trajectory as kernels

    left, right, bias, thresholds, weights, _, _, alpha = _arrays(cell)
    path, v, g, h = _arrays((z, drive.filtered, gradient, information))
    lengths = drive.lengths.numpy()
    jac = kernels.tangent(activations.CODES[name], path, lengths, v, left, right, weights, bias, thresholds, alpha)
    total_g, total_h, to_last = kernels.pull_back(jac, lengths, g, h)
    return torch.from_numpy(total_g), torch.from_numpy(total_h), torch.from_numpy(to_last)


def _arrays(tensors) -> tuple:
    return tuple(t.detach().contiguous().numpy() for t in tensors)
