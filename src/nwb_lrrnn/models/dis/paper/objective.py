"""The paper's objective: a linear autoencoder of pairs of bins whose latents shall fall into independent groups.

Of every pair (u_{t-1}, y_t), u = phi(y_{t-1}), with K latents in G groups and a posterior sd s that is fixed:

    q(z | u) = N(B u + d, s^2 1),   log s = -log(N_tot) / (K + 4),   p(z) = N(0, 1),
    p(y | z) = N(A z + c + given, diag(exp(2 lambda))),
    loss = -E log p(y | z) + KL(q | p) + penalty * PC + block_penalty * BD,

one sample of z a pair; PC is the total correlation between the groups (`partial_correlation`), BD the mean square of
B A outside its blocks. Torch, S restarts side by side on any device; `models.kernels.paper_objective` is the same with
its gradient written by hand, for the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.training.loop import Layout

TERMS = ("loss", "log_likelihood", "kl", "partial_correlation", "block_diagonal")  # as the kernels count them


@dataclass(frozen=True)
class Settings:
    """What is minimised and how; the defaults are the paper's."""

    penalty: float = 20.0  # of the partial correlation
    block_penalty: float = 0.0  # of B A outside its blocks
    encoder: str = "linear"  # or "mlp"
    n_hidden: int = 32  # of the MLP
    max_epochs: int = 5000
    batch_size: int | None = 128  # None: all pairs, which makes the partial correlation the full-data estimate
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: str = "constant"  # or "cosine": down to 0
    leave_one_out: bool = False  # leave a latent's own kernel out of the densities
    n_total: int | None = None  # N_tot, in s and in the densities; None: the number of training pairs


FINE_TUNING = Settings(max_epochs=100, learning_rate=3e-3, schedule="cosine")


@dataclass(frozen=True)
class Form:
    """What a network looks like: its sizes, and where its groups begin."""

    n_features: int
    n_units: int
    group_ranks: tuple[int, ...]
    n_hidden: int = 0  # 0: a linear encoder

    @property
    def rank(self) -> int:
        """Return the number of latents."""
        return sum(self.group_ranks)

    @property
    def edges(self) -> np.ndarray:
        """Return where groups begin, and the rank (G + 1,)."""
        return np.concatenate([[0], np.cumsum(self.group_ranks)])

    @property
    def layout(self) -> Layout:
        """Return the parameters in the order of the flat vector: B, d (or those of an MLP), A, c, lambda."""
        encoder = {"encoder_weights": (self.rank, self.n_features), "encoder_bias": (self.rank,)}
        if self.n_hidden:
            encoder = {
                "hidden_weights": (self.n_hidden, self.n_features),
                "hidden_bias": (self.n_hidden,),
                "output_weights": (self.rank, self.n_hidden),
                "output_bias": (self.rank,),
            }
        units = self.n_units
        return Layout(encoder | {"loadings": (units, self.rank), "offset": (units,), "log_sd": (units,)})


def initial(form: Form, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return random parameters (S, P) in float64, on the CPU: those of torch's `nn.Linear`, lambda = -1.

    Weights and biases of a layer are uniform within 1 / sqrt(inputs of the layer).
    """
    rows = []
    for generator in generators:
        parts, width = {}, 1.0
        for name, shape in form.layout.shapes.items():
            width = shape[1] ** -0.5 if len(shape) == 2 else width  # a bias comes after its weights
            parts[name] = torch.as_tensor(generator.uniform(-width, width, (1, *shape)))
        parts["log_sd"] = torch.full_like(parts["log_sd"], -1.0)
        rows.append(form.layout.pack(parts))
    return torch.cat(rows)


def posterior_log_sd(n_total: int, rank: int) -> float:
    """Return log s, the exponent of Scott's rule: -log(N_tot) / (K + 4)."""
    return -math.log(n_total) / (rank + 4)


def posterior_mean(parts: dict[str, Tensor], u: Tensor) -> Tensor:
    """Return the posterior means (S, pair, latent) of features (S or 1, pair, feature)."""
    if "hidden_weights" in parts:
        hidden = torch.relu(u @ parts["hidden_weights"].mT + parts["hidden_bias"][:, None])
        return hidden @ parts["output_weights"].mT + parts["output_bias"][:, None]
    return u @ parts["encoder_weights"].mT + parts["encoder_bias"][:, None]


def log_likelihood(parts: dict[str, Tensor], z: Tensor, y: Tensor) -> Tensor:
    """Return log p(y | z) (S,) summed over units, the mean over pairs, all constants included."""
    residual = y - z @ parts["loadings"].mT - parts["offset"][:, None]
    log_sd = parts["log_sd"][:, None]
    density = -0.5 * math.log(2 * math.pi) - log_sd - 0.5 * residual**2 * torch.exp(-2 * log_sd)
    return density.sum(-1).mean(-1)


def kl(mean: Tensor, log_sd: float) -> Tensor:
    """Return KL(N(mean, s^2) | N(0, 1)) (S,), summed over latents, the mean over pairs."""
    return 0.5 * (mean**2 + math.exp(2 * log_sd) - 1.0 - 2 * log_sd).sum(-1).mean(-1)


def partial_correlation(
    z: Tensor,
    mean: Tensor,
    log_sd: float,
    group_ranks: Sequence[int],
    n_total: int,
    leave_one_out: bool = False,
) -> Tensor:
    """Return how far samples are from independence between groups (S,), in nats: 0 for a single group.

    PC = mean over m of log q(z_m) - sum_g log q(z_m,g), with q the mixture of the posteriors of all N_tot pairs, of
    which a batch of B gives an estimate: q(z_m) = [sum_b w_mb N(z_m; mu_b, s^2)] / N_tot, its own kernel weighing 1
    and the others (N_tot - 1) / (B - 1). For B = N_tot all weigh 1: the full-data estimate.

    All are biased. In the full-data estimate a latent's own kernel counts as a neighbour, and most so in the joint
    density, where neighbours are rare: independent groups do not give 0. `leave_one_out` takes the own kernel away
    and divides by N_tot - 1; what is left is the logarithm of a noisy density, which is too low, and of the joint one
    most. Minibatches mix the two, and lie below the full-data value, at times below 0. In 1000 pairs of three and
    three independent standard normal latents, s = 0.5, where the truth is 0, one finds 0.22 with all data, 0.08 in
    batches of 128, -0.26 leaving one out. So compare values only for the same estimator, s, scale and number of pairs.

    Parameters
    ----------
    z, mean : Tensors (S, pair, latent)
    """
    n = z.shape[1]
    if len(group_ranks) == 1:
        return (z * 0.0).sum((1, 2))
    own = -math.inf if leave_one_out else 0.0
    other = math.log((n_total - 1) / (n - 1)) if n > 1 else -math.inf
    log_weight = torch.full((n, n), other, dtype=z.dtype, device=z.device).fill_diagonal_(own)
    exponent = -0.5 * math.exp(-2 * log_sd)
    groups = [
        exponent * (a**2).sum(-1)[:, :, None] + exponent * (b**2).sum(-1)[:, None] - 2 * exponent * (a @ b.mT)
        for a, b in zip(z.split(list(group_ranks), -1), mean.split(list(group_ranks), -1), strict=True)
    ]  # (S, pair, kernel) each; the normal constants are the same in the joint density
    joint = torch.stack(groups).sum(0)
    value = torch.logsumexp(joint + log_weight, -1)
    for group in groups:
        value = value - torch.logsumexp(group + log_weight, -1)
    return value.mean(-1) + (len(groups) - 1) * math.log(n_total - leave_one_out)


def block_diagonal(parts: dict[str, Tensor], group_ranks: Sequence[int]) -> Tensor:
    """Return the mean over all K^2 entries of the square of B A (S,), those within groups counted as 0."""
    inside = torch.block_diag(*[torch.ones(h, h) for h in group_ranks]).to(parts["loadings"])
    return (((1 - inside) * (parts["encoder_weights"] @ parts["loadings"])) ** 2).mean((1, 2))


def terms(
    flat: Tensor, form: Form, settings: Settings, log_sd: float, n_total: int, u: Tensor, y: Tensor, noise: Tensor
) -> Tensor:
    """Return the TERMS (S, term) of a batch, the loss first, differentiable in flat (S, P).

    Parameters
    ----------
    u, y, noise : Tensors (S or 1, pair, feature), (S or 1, pair, unit), (S, pair, latent)
    """
    parts = form.layout.unpack(flat)
    mean = posterior_mean(parts, u)
    z = mean + math.exp(log_sd) * noise
    of_data, of_prior = log_likelihood(parts, z, y), kl(mean, log_sd)
    loss = of_prior - of_data
    correlation = block = torch.zeros_like(loss)
    if settings.penalty and len(form.group_ranks) > 1:
        correlation = partial_correlation(z, mean, log_sd, form.group_ranks, n_total, settings.leave_one_out)
        loss = loss + settings.penalty * correlation
    if settings.block_penalty:
        block = block_diagonal(parts, form.group_ranks)
        loss = loss + settings.block_penalty * block
    return torch.stack([loss, of_data, of_prior, correlation, block], -1)
