"""How a particle filter is run and differentiated: fused kernels on the CPU, a plain torch loop elsewhere."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.kernels.particle_types import BEFORE, Moves, Noise, Proposal, Record, Seen
from nwb_lrrnn.models.smc import sites as site_search
from nwb_lrrnn.models.smc import steps
from nwb_lrrnn.models.smc.proposals import Sites, own_sites, proposal_of
from nwb_lrrnn.models.smc.steps import Options, State, View
from nwb_lrrnn.models.training.devices import N_CHUNKS, use_kernels
from nwb_lrrnn.models.training.threads import over_ranges


class Law(NamedTuple):
    """The noise of the latents: roots (S, R, R) of Sigma_1 and Sigma_z."""

    initial_root: Tensor
    noise_root: Tensor


def run(
    options: Options,
    lengths: Tensor,
    moves: Moves,
    law: Law,
    sites: Sites | Tensor,
    seen: Seen,
    noise: Noise,
    *,
    kernels: bool | None = None,
) -> tuple[Tensor, Record]:
    """Return the increments ln p(y_t | y_<t) (S, B, T) of a particle filter, and its record.

    Differentiable in the moves, the law, the sites and the readout, ancestors held fixed: the gradient of variational
    SMC (Maddison et al. 2017; Naesseth et al. 2018; Le et al. 2018), without the score of resampling.

    Parameters
    ----------
    lengths : Tensor (B,)
        Bins of each trial; later increments are 0.
    sites : Sites, or Tensor (S, B, T)
        The proposal; a tensor instead is the sites' constant, and the sites are found on the way by
        `options.n_newton` Newton steps. They count as constants for the gradient.
    noise : Noise
        Shared by the S networks.
    kernels : bool, optional
        Overrides the choice of path.
    """
    if use_kernels(moves.left) if kernels is None else kernels:
        if isinstance(sites, Tensor):
            record, sites = _search(options, lengths, moves, law, sites, seen, noise)
        else:
            record = None
        proposal = proposal_of(sites, *law)
        kept = _Kept(options, lengths, noise, proposal.rows, record)
        increments = _FusedFilter.apply(kept, *moves, *proposal[1:], *seen)
        return increments, kept.record  # type: ignore[return-value]
    return _loop(options, lengths, moves, law, sites, seen, noise)


# --- torch -----------------------------------------------------------------------------------------------------------


def _loop(options, lengths, moves, law, sites, seen, noise) -> tuple[Tensor, Record]:
    n_nets, n_trials, rank = moves.start.shape
    n_steps, n_particles = noise.normals.shape[1:3]
    proposal = None if isinstance(sites, Tensor) else proposal_of(sites, *law)
    shape = (n_nets, n_trials, n_particles)
    z = moves.start[:, :, None].expand(*shape, rank)
    log_weights = torch.full(shape, -np.log(n_particles), dtype=torch.float64, device=z.device)
    state = State(z, log_weights)
    increments, records = [], []
    covariances = [root.double() @ root.double().mT for root in law]
    for t in range(n_steps):
        f = z
        if t:
            push = moves.push[:, :, (t - 1) % moves.push.shape[2]]
            f = steps.transition(options, moves, state.z, moves.inputs[:, :, t - 1], push)
        v = moves.inputs[:, :, t]
        if proposal is None:
            view = _view(seen, t)
            p, information = site_search.site_of(options, moves, view, f, state.log_weights, covariances[min(t, 1)], v)
            first = Sites(
                torch.arange(n_trials, device=z.device)[:, None],
                torch.full((n_trials,), t == 0, device=z.device),
                information, p[:, :, None], sites[:, :, t : t + 1],
            )  # fmt: skip
            affine = steps.affine_of(proposal_of(first, *law), 0)
        else:
            affine = steps.affine_of(proposal, t)
            view = _view(seen, t) if seen.y.shape[2] else None
        given = noise.ancestors[:, :, t].long() if noise.ancestors.shape[-1] else None
        after, increment, record = steps.advance(
            options, moves, affine, view, state, f, v, noise.normals[:, t], noise.points[:, t], given
        )
        inside = t < lengths
        # nothing may grow in the padding
        state = State(*(torch.where(inside.reshape(1, -1, *[1] * (a.ndim - 2)), a, b.detach())
                        for a, b in zip(after, state, strict=True)))  # fmt: skip
        increments.append(torch.where(inside, increment, torch.zeros_like(increment)))
        records.append({name: value.detach() for name, value in record.items()})
    total = torch.stack(increments, dim=2)
    joined = {name: torch.stack([r[name] for r in records], dim=2) for name in records[0]}
    joined.setdefault("first_weights", joined["weights"][..., :0])
    return total, Record(increments=total.detach(), **joined)


def _view(seen: Seen, t: int) -> View:
    return View(seen.y[:, t], seen.mask[:, t], seen.loadings, seen.offset[:, :, t % seen.offset.shape[2]], seen.spread)


# --- kernels ---------------------------------------------------------------------------------------------------------


class _Kept:
    """What passes around autograd: options, noise, and the record of a filter that has run."""

    def __init__(self, options: Options, lengths: Tensor, noise: Noise, rows: Tensor, record: Record | None):
        self.options, self.record = options, record
        self.lengths, self.rows = lengths.numpy(), np.ascontiguousarray(rows.numpy())
        self.noise = _noise(noise)


def _codes(options: Options) -> Any:
    from nwb_lrrnn.models.kernels import activations, particle_readout

    likelihood = options.likelihood
    readout = particle_readout.RATES if options.readout == "rates" else particle_readout.LATENTS
    return activations.CODES[options.nonlinearity], likelihood.code, readout, float(likelihood.time)


def _noise(noise: Noise) -> Noise:
    return Noise(*(np.ascontiguousarray(a.numpy()) for a in (noise.normals, noise.points, noise.ancestors.int())))


def _array(tensor: Tensor, dtype: torch.dtype | None = None) -> np.ndarray:
    return tensor.detach().to(tensor.dtype if dtype is None else dtype).contiguous().numpy()


def _moves(tensors) -> Moves:
    kept = tensors[1].dtype
    return Moves(*(_array(t, kept) for t in tensors))


def _seen(tensors) -> Seen:
    y, mask, loadings, offset, spread = (_array(t, torch.float64) for t in tensors)
    # the kernels' inner loops run over units
    loadings = loadings[:, None] if loadings.ndim == 2 else np.ascontiguousarray(loadings.transpose(0, 2, 1))
    return Seen(y, mask, loadings, offset, spread)


def _empty_record(options: Options, nets: int, noise: Noise) -> Record:
    trials, steps_, particles, rank = noise.normals.shape
    shape = (nets, trials, steps_, particles)
    kept = noise.normals.dtype
    return Record(
        moved=np.zeros((*shape, rank), kept),
        drawn=np.zeros((*shape, rank), kept),
        weights=np.zeros(shape),
        first_weights=np.zeros(shape if options.when == BEFORE else (nets, trials, steps_, 0)),
        ancestors=np.zeros(shape, np.int32),
        resampled=np.zeros(shape[:3], np.bool_),
        increments=np.zeros(shape[:3]),
    )


def _run(options, lengths, moves, covariances, proposal, seen, noise, n_newton) -> Record:
    from nwb_lrrnn.models.kernels import particle_filter

    kernel: Any = particle_filter.run
    record = _empty_record(options, len(moves.start), noise)
    fixed: Any = (*_codes(options), options.when, options.threshold, n_newton, lengths, moves, covariances)
    over_ranges(
        lambda a, b: kernel(a, b, *fixed, proposal, seen, noise, record),
        len(moves.start) * len(lengths),
        record.weights.size * moves.left.shape[1],
    )
    return record


def _search(options, lengths, moves, law, constant, seen, noise) -> tuple[Record, Sites]:
    """Return the record of a filter that finds its sites on the way, and the sites, as constants."""
    arrays, nets = _moves(moves), len(moves.left)
    trials, n_steps, _, rank = noise.normals.shape
    covariances = torch.stack([root.double() @ root.double().mT for root in law], dim=1)
    covariance, root, information = (np.zeros((nets, trials * n_steps, rank, rank)) for _ in range(3))
    slope = np.zeros((nets, trials, n_steps, rank))
    rows = np.arange(trials * n_steps).reshape(trials, n_steps)
    log_det = np.zeros((nets, trials * n_steps))
    proposal = Proposal(rows, covariance, root, information, log_det, slope, _array(constant, torch.float64))
    record = _run(
        options, lengths.numpy(), arrays, _array(covariances), proposal, _seen(seen), _noise(noise), options.n_newton
    )
    found = torch.from_numpy(information).reshape(nets, trials, n_steps, rank, rank)
    return record, own_sites(found, torch.from_numpy(slope), constant)


class _FusedFilter(torch.autograd.Function):
    """The filter by the fused kernels and their hand-written adjoint."""

    @staticmethod
    def forward(ctx, kept, *tensors):  # type: ignore[override]
        moves, seen = _moves(tensors[:9]), _seen(tensors[15:])
        given = (_array(t, torch.float64) for t in tensors[9:15])
        proposal = Proposal(kept.rows, *given)
        if kept.record is None:
            nothing = np.zeros((len(moves.start), 2, 0, 0))
            kept.record = _run(kept.options, kept.lengths, moves, nothing, proposal, seen, kept.noise, 0)
        ctx.kept, ctx.arrays = kept, (moves, proposal, seen)
        ctx.like = [(t.shape, t.dtype) for t in tensors]
        return torch.from_numpy(kept.record.increments)

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        from nwb_lrrnn.models.kernels import particle_adjoint

        kernel: Any = particle_adjoint.run
        moves, proposal, seen = ctx.arrays
        kept = ctx.kept
        trials = len(kept.lengths)
        chunks = min(N_CHUNKS, trials)
        out = _gradients(moves, proposal, seen, chunks)
        fixed: Any = (chunks, *_codes(kept.options), kept.options.when, kept.lengths, moves, proposal, seen, kept.noise)
        g = _array(grads[0], torch.float64)
        n_numbers = kept.record.weights.size * moves.left.shape[1]
        over_ranges(lambda a, b: kernel(a, b, *fixed, kept.record, g, out), len(moves.start) * chunks, n_numbers)
        return None, *_as_tensors(out, ctx.like)


def _gradients(moves: Moves, proposal: Proposal, seen: Seen, chunks: int):
    """Return zeroed sums for the adjoint."""
    from nwb_lrrnn.models.kernels.particle_adjoint import Gradients

    nets, trials, rank = moves.start.shape
    n_steps, rows = proposal.rows.shape[1], proposal.root.shape[1]
    own = rows == trials * n_steps and rows > 2 * chunks  # then no two trials share a row

    def summed(a: np.ndarray) -> np.ndarray:
        return np.zeros((nets, chunks, *a.shape[1:]))

    def matrix(a: np.ndarray) -> np.ndarray:
        return np.zeros((nets, 1 if own else chunks, *a.shape[1:]))

    sums = {name: summed(getattr(moves, name)) for name in ("left", "right", "bias", "thresholds", "input_weights")}
    matrices = {name: matrix(getattr(proposal, name)) for name in ("covariance", "root", "information", "log_det")}
    return Gradients(
        decay=np.zeros((nets, chunks)),
        push=np.zeros((nets, trials, moves.push.shape[2], rank)),
        inputs=np.zeros((nets, trials, n_steps, moves.inputs.shape[3])),
        start=np.zeros(moves.start.shape),
        slope=np.zeros_like(proposal.slope),
        constant=np.zeros_like(proposal.constant),
        loadings=summed(seen.loadings),
        offset=np.zeros((nets, trials, seen.offset.shape[2], seen.offset.shape[3])),
        spread=summed(seen.spread),
        **sums,
        **matrices,
    )


def _as_tensors(out, like) -> list[Tensor | None]:
    """Return the gradients in the shapes and types of the tensors of `forward`."""
    moves = [out.decay, out.left, out.right, out.bias, out.thresholds, out.input_weights]
    moves = [a.sum(1) for a in moves]
    matrices = [a.sum(1) for a in (out.covariance, out.root, out.information, out.log_det)]
    proposal = [*matrices, out.slope, out.constant]
    loadings = out.loadings.sum(1)
    loadings = loadings.transpose(0, 2, 1) if len(like[17][0]) == 3 else loadings[:, 0]
    grads = [*moves, out.push, out.inputs, out.start, *proposal, None, None, loadings, out.offset, out.spread.sum(1)]
    tensors: list[Tensor | None] = []
    for grad, (shape, dtype) in zip(grads, like, strict=True):
        if grad is None or 0 in shape:
            tensors.append(None)
            continue
        for axis, (got, wanted) in enumerate(zip(grad.shape, shape, strict=True)):
            if got != wanted:  # shared by trials, bins or networks: summed over them
                grad = grad.sum(axis, keepdims=True)
        tensors.append(torch.from_numpy(np.ascontiguousarray(grad)).to(dtype))
    return tensors
