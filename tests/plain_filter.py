"""A plain variational SMC filter of a low-rank network: torch.distributions, a loop over time, autograd.

What a decent hand writes first, after Algorithm 1 of Pals et al. (2024, arXiv 2406.16749): vectorised over trials and
particles, every density evaluated by its distribution, nothing cancelled on paper. `benchmarks/smc.py` measures the
package against it, and tests compare with it under shared noise.

    python tests/plain_filter.py    # its bound beside exact likelihoods, then its CPU time (a minute)
"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, Poisson
from torch.nn.functional import softplus

PHI = {
    "relu": lambda x, h: torch.relu(x),
    "clipped_relu": lambda x, h: torch.relu(x + h) - torch.relu(x),
    "tanh": lambda x, h: torch.tanh(x),
    "identity": lambda x, h: x,
}
CHOICES = ("latents", "currents"), ("gaussian", "poisson"), ("optimal", "bootstrap"), ("systematic", "multinomial")
UNCHECKED = {"validate_args": False}


class Network(NamedTuple):
    """Tensors of x_t = m z_t + B v_t + b, z_{t+1} = (1 - alpha) z_t + alpha [nᵀ phi(x_t; h) / N + s + S u_t] + w_t.

    z_1 ~ N(mu_1 + K v_1, Sigma_1); y_t ~ p(y | g(C r_t + F v_t + d)); None means zero. Roots are lower triangular.
    """

    left_vectors: Tensor  # m (neuron, latent)
    right_vectors: Tensor  # n (neuron, latent)
    bias: Tensor  # b (neuron,)
    alpha: Tensor  # ()
    noise_root: Tensor  # Sigma_z = root rootᵀ (latent, latent)
    drive: Tensor  # s (latent,)
    initial_mean: Tensor  # mu_1 (latent,)
    initial_root: Tensor  # Sigma_1 = root rootᵀ (latent, latent)
    loadings: Tensor  # C (unit, latent), or (neuron,) where the units read currents
    offset: Tensor  # d (unit,)
    variance: Tensor | None = None  # of the Gaussian likelihood (unit,)
    thresholds: Tensor | None = None  # h (neuron,)
    input_weights: Tensor | None = None  # B (neuron, input)
    latent_input_weights: Tensor | None = None  # S (latent, input)
    initial_input_weights: Tensor | None = None  # K (latent, input)
    readout_input_weights: Tensor | None = None  # F (unit, input)


class Filtered(NamedTuple):
    """What `plain_filter` returns, time first."""

    increments: Tensor  # L_t (time, trial), nats; their sum over time is the bound of a trial
    particles: Tensor  # z_t before resampling (time, trial, particle, latent)
    log_weights: Tensor  # (time, trial, particle)
    ancestors: Tensor  # drawn by the weights of step t (time, trial, particle): step t + 1 starts from z_t[ancestors]


def plain_filter(
    network: Network,
    y: Tensor,  # (time, trial, unit)
    n_particles: int,
    *,
    nonlinearity: str = "relu",
    readout: str = "latents",  # or "currents"
    likelihood: str = "gaussian",  # or "poisson", of mean bin_size * softplus
    bin_size: float = 1.0,
    proposal: str = "optimal",  # or "bootstrap"
    resampling: str = "systematic",  # or "multinomial"
    inputs: Tensor | None = None,  # u (time, trial, input)
    filter_inputs: bool = False,
    noise: Tensor | None = None,  # standard normal (time, trial, particle, latent)
    uniforms: Tensor | None = None,  # (time, trial); for multinomial (time, trial, particle)
    ancestors: Tensor | None = None,  # (time, trial, particle): taken instead of drawn
) -> Filtered:
    """Return the bound on ln p(y), resampling at every step; the gradient ignores that ancestors depend on weights."""
    for word, known in zip((readout, likelihood, proposal, resampling), CHOICES, strict=True):
        if word not in known:
            raise ValueError(f"got {word!r}, wanted one of {', '.join(known)}")
    gaussian, optimal = likelihood == "gaussian", proposal == "optimal"
    if optimal and not gaussian:
        raise ValueError(f"proposal: got 'optimal' with likelihood {likelihood!r}, wanted 'bootstrap' for counts")
    n_steps, n_trials, rank = *y.shape[:2], network.left_vectors.shape[1]
    if noise is None:
        noise = torch.randn(n_steps, n_trials, n_particles, rank, dtype=y.dtype, device=y.device)
    if uniforms is None:
        shape = (n_steps, n_trials) if resampling == "systematic" else (n_steps, n_trials, n_particles)
        uniforms = torch.rand(shape, dtype=torch.float64, device=y.device)
    v = filtered(inputs, network.alpha) if filter_inputs and inputs is not None else inputs
    currents = driven(network.bias, network.input_weights, v, n_steps)  # of the model neurons, without the latents
    drives = driven(network.drive, network.latent_input_weights, inputs, n_steps)
    offsets = driven(network.offset, network.readout_input_weights, v, n_steps)
    start = driven(network.initial_mean, network.initial_input_weights, None if v is None else v[:1], 1)[0]
    deviation = None if network.variance is None else network.variance.sqrt()
    if optimal:
        first, later = (gain_form(network, readout, root) for root in (network.initial_root, network.noise_root))

    parents, steps = start.expand(n_trials, n_particles, rank), []
    for t in range(n_steps):
        mean = transition(network, nonlinearity, parents, currents[t - 1], drives[t - 1]) if t else parents
        root = network.noise_root if t else network.initial_root
        q = prior = MultivariateNormal(mean, scale_tril=root, **UNCHECKED)
        if optimal:
            gain, keep, root = later if t else first
            shift = (y[t, :, None] - expected(network, readout, None, currents[t], offsets[t])) @ gain.T
            q = MultivariateNormal(mean @ keep.T + shift, scale_tril=root, **UNCHECKED)
        z = q.loc + noise[t] @ root.T
        eta = expected(network, readout, z, currents[t], offsets[t])
        units = Normal(eta, deviation, **UNCHECKED) if gaussian else Poisson(bin_size * softplus(eta), **UNCHECKED)
        log_w = units.log_prob(y[t, :, None]).sum(-1)  # (trial, particle)
        if optimal:
            log_w = log_w + prior.log_prob(z) - q.log_prob(z)
        chosen = resample(log_w, uniforms[t], resampling) if ancestors is None else ancestors[t]
        parents = torch.gather(z, 1, chosen[..., None].expand(-1, -1, rank))
        steps.append((torch.logsumexp(log_w, -1) - np.log(n_particles), z, log_w, chosen))
    return Filtered(*(torch.stack(column) for column in zip(*steps, strict=True)))


def transition(network: Network, nonlinearity: str, z: Tensor, current: Tensor, drive: Tensor) -> Tensor:
    """Return the mean of z_{t+1} given z_t, (trial, particle, latent)."""
    phi = PHI[nonlinearity](z @ network.left_vectors.T + current, network.thresholds)
    recurrent = phi @ network.right_vectors / network.left_vectors.shape[0]
    return (1 - network.alpha) * z + network.alpha * (recurrent + drive)


def expected(network: Network, readout: str, z: Tensor | None, current: Tensor, offset: Tensor) -> Tensor:
    """Return C r + F v + d, (trial, particle, unit), at latents z; None stands for z = 0."""
    if readout == "latents":
        return offset if z is None else z @ network.loadings.T + offset
    x = current if z is None else z @ network.left_vectors.T + current
    return x * network.loadings + offset


def gain_form(network: Network, readout: str, root: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gain K, I - K H and the root of the covariance V of p(z_t | z_{t-1}, y_t).

    V = (Sigma^-1 + Hᵀ P H)^-1 and K = V Hᵀ P for a readout H z of noise precision P.
    """
    h = network.loadings if readout == "latents" else network.loadings[:, None] * network.left_vectors
    weighted = (h / network.variance[:, None]).T  # (latent, unit)
    v = torch.cholesky_inverse(torch.linalg.cholesky(torch.cholesky_inverse(root) + weighted @ h))
    gain = v @ weighted
    return gain, torch.eye(len(v)).to(v) - gain @ h, torch.linalg.cholesky(v)


def resample(log_w: Tensor, uniforms: Tensor, scheme: str) -> Tensor:
    """Return indices of ancestors (trial, particle)."""
    n = log_w.shape[-1]
    edges = torch.softmax(log_w.detach().double(), -1).cumsum(-1)
    points = uniforms.double()
    if scheme == "systematic":
        points = (torch.arange(n).to(points) + points[:, None]) / n
    return torch.searchsorted(edges / edges[:, -1:], points, right=True).clamp(max=n - 1)


def driven(constant: Tensor, weights: Tensor | None, inputs: Tensor | None, n_steps: int) -> list[Tensor]:
    """Return constant + weights @ input of every time step, each (trial, 1, size), or (size,) without inputs."""
    if weights is None or inputs is None:
        return [constant] * n_steps
    return list((inputs @ weights.T + constant)[:, :, None].unbind())


def filtered(inputs: Tensor, alpha: Tensor) -> Tensor:
    """Return v_{t+1} = (1 - alpha) v_t + alpha u_t from v_1 = 0."""
    v = [torch.zeros_like(inputs[0])]
    for u in inputs[:-1]:
        v.append((1 - alpha) * v[-1] + alpha * u)
    return torch.stack(v)


# --- the bound beside the exact log-likelihood, and what it costs -----------------------------------------------------

SIZES = {  # trials, steps, particles, neurons, rank, units
    "EEG-like": ((10, 50, 10, 512, 3, 64), {"nonlinearity": "clipped_relu"}, 7),
    "tutorial-like": ((16, 75, 64, 20, 2, 20), {"readout": "currents"}, 7),
    "hippocampus": ((64, 219, 64, 512, 3, 21), {"likelihood": "poisson", "proposal": "bootstrap", "bin_size": 0.01}, 1),
}


def draw_network(neurons: int, rank: int, units: int, readout: str = "latents", n_inputs: int = 0) -> Network:
    """Return a network with parameters of a usual size."""
    rng, eye = np.random.default_rng(0), np.eye(rank)
    fields = {
        "left_vectors": rng.uniform(-1, 1, (neurons, rank)) / np.sqrt(rank), "bias": rng.uniform(-1, 1, neurons),
        "right_vectors": np.sqrt(neurons) * rng.uniform(-1, 1, (neurons, rank)), "alpha": np.array(0.1),
        "thresholds": rng.uniform(0, 1, neurons), "drive": np.zeros(rank), "noise_root": 0.2 * eye,
        "loadings": np.ones(units) if readout == "currents" else rng.normal(size=(units, rank)) / np.sqrt(rank),
        "initial_mean": np.zeros(rank), "initial_root": eye, "offset": np.zeros(units), "variance": np.full(units, 0.3),
    }  # fmt: skip
    sizes = {"input": neurons, "latent_input": rank, "initial_input": rank, "readout_input": units}
    fields |= {f"{name}_weights": rng.normal(size=(size, n_inputs)) for name, size in sizes.items()}
    return Network(**{name: torch.tensor(value) for name, value in fields.items()})


def cost(name: str) -> float:
    """Return median CPU milliseconds, user and system, of a bound and its gradient; a single one has no warm-up."""
    (trials, steps, particles, neurons, rank, units), options, repeats = SIZES[name]
    double = draw_network(neurons, rank, units, options.get("readout", "latents"))
    network = Network(*(value.float().requires_grad_() for value in double))
    y = (torch.randn(steps, trials, units, generator=torch.Generator().manual_seed(0)) > 1).float()
    taken = []
    for _ in range(repeats + (repeats > 1)):
        begin = time.process_time()
        bound = plain_filter(network, y, particles, **options).increments.mean()
        torch.autograd.grad(bound, network, allow_unused=True)
        taken.append(1e3 * (time.process_time() - begin))
    return statistics.median(taken[repeats > 1 :])


def check(readout: str) -> str:
    """Return one row: Kalman's log-likelihood per bin of a linear network with inputs, and the two bounds."""
    from nwb_lrrnn.dynamics import LowRankDynamics
    from nwb_lrrnn.models.linear import LinearStateSpace

    network = draw_network(5, 2, 5, readout, n_inputs=1)
    values = {name: value.numpy() for name, value in network._asdict().items() if name != "thresholds"}
    alpha, root, first, variance = (values.pop(k) for k in ("alpha", "noise_root", "initial_root", "variance"))
    values |= {"latent_noise": root @ root.T, "initial_covariance": first @ first.T, "observation_variance": variance}
    exact = LowRankDynamics(**values, dt=1.0, tau=1 / float(alpha), nonlinearity="identity", readout=readout)
    u = np.random.default_rng(1).normal(size=(4, 30, 1))
    y = exact.simulate(4, 30, inputs=u, random_state=2)["observations"].values
    row = f"{readout:>14} {LinearStateSpace.from_dynamics(exact).score(y, inputs=u):10.4f}"
    u, y = (torch.tensor(array).transpose(0, 1).repeat(1, 20, 1) for array in (u, y))  # 20 runs
    for proposal in CHOICES[2]:
        options = {"nonlinearity": "identity", "readout": readout, "proposal": proposal, "inputs": u}
        row += f" {float(plain_filter(network, y, 1000, **options).increments.mean()):10.4f}"
    return row


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("linear networks, 1000 particles, nats per bin")
    print(f"{'readout':>14} {'Kalman':>10} {'optimal':>10} {'bootstrap':>10}")
    for readout in CHOICES[0]:
        print(check(readout), flush=True)
    print("forward and backward, float32, one thread, CPU ms")
    for name in SIZES:
        print(f"{name:>14} {cost(name):10.1f}", flush=True)


if __name__ == "__main__":
    main()
