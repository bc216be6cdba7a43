"""Three tasks of networks in neuroscience: the field written down and fitted, against gradient through whole trials.

    python benchmarks/least_squares_tasks.py [--iterations 400]       # about a minute and a half

    gated      integrate the first or the second of two inputs, as a third says (rank 1): correct signs after 5 tau
    memory     keep an angle that a pulse has set (rank 2, a ring): angles within 0.3 rad after 8 tau
    rhythm     turn while a cue is on, be silent while it is off (rank 2): trials with both right

Both have tanh neurons, tau = 1, Euler steps of 0.05, and the same test trials. Least squares is told the field of the
task, in a box (`box`) or where trials of the task go, and around (`trials`); gradient (Adam 1e-2, clipped) is told the
trajectories that the field makes. Inputs of least squares enter the neurons, or push the latents alone where that is
what they do (`inputs`); `inside` is what comes of neurons that take them in whatever they do. A ring is the hardest: an
angle drifts as fast as the field along it is wrong, 0.04 per tau being too much, and neurons that have to make a sum of
inputs too have none left for that.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from nwb_lrrnn.models.least_squares.fields_from import fit_field

DT, N_STEPS, N_TRIALS = 0.05, 160, 200


def gated(z, v):
    return np.where(v[:, 2:] > 0, v[:, :1], v[:, 1:2]) * np.ones_like(z)


def ring(z, v):
    return 2 * z * (1 - (z**2).sum(1, keepdims=True)) + 4 * v


def cued(z, v):
    hopf = z * (1 - (z**2).sum(1, keepdims=True)) + 2 * np.stack([-z[:, 1], z[:, 0]], axis=1)
    return np.where(v > 0.5, hopf, -z)


def trials_of(task: str, seed: int):
    """Return inputs (trial, time, input) and starts (trial, latent)."""
    rng = np.random.default_rng(seed)
    if task == "gated":
        means = rng.choice([-0.4, 0.4], (N_TRIALS, 1, 2))
        evidence = means + rng.standard_normal((N_TRIALS, N_STEPS, 2))
        gate = np.broadcast_to(rng.choice([-1.0, 1.0], (N_TRIALS, 1, 1)), (N_TRIALS, N_STEPS, 1))
        return np.concatenate([evidence, gate], axis=2), np.zeros((N_TRIALS, 1))
    if task == "memory":
        angle = rng.uniform(-np.pi, np.pi, N_TRIALS)
        inputs = np.zeros((N_TRIALS, N_STEPS, 2))
        inputs[:, :10] = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
        return inputs, 0.1 * rng.standard_normal((N_TRIALS, 2))
    inputs = np.zeros((N_TRIALS, N_STEPS, 1))
    for row, switch in zip(inputs, rng.integers(40, 120, N_TRIALS), strict=True):
        row[:switch] = 1.0
    return inputs, 0.3 * rng.standard_normal((N_TRIALS, 2))


def points_of(task: str):
    """Return the sampler of latents and inputs."""

    def sample(n, rng):
        if task == "gated":
            evidence = 1.2 * rng.standard_normal((n, 2))
            return rng.uniform(-4, 4, (n, 1)), np.concatenate([evidence, rng.choice([-1.0, 1.0], (n, 1))], axis=1)
        z = rng.uniform(-1.5, 1.5, (n, 2))
        if task == "memory":
            angle = rng.uniform(-np.pi, np.pi, n)
            return z, np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.choice([0.0, 1.0], (n, 1))
        return z, rng.choice([0.0, 1.0], (n, 1))

    return sample


def points_along(task: str):
    """Return the sampler of latents and inputs where trials of the task go, onsets more often, and around there."""

    def sample(n, rng):
        inputs, start = trials_of(task, 1)
        path = run(FIELDS[task], inputs, start)
        trial, time = rng.integers(len(path), size=n), rng.integers(N_STEPS, size=n)
        early = rng.random(n) < 0.3
        time[early] = rng.integers(0, 14, early.sum())
        return path[trial, time] + 0.15 * rng.standard_normal((n, path.shape[2])), inputs[trial, time]

    return sample


FIELDS = {"gated": gated, "memory": ring, "rhythm": cued}


def run(velocity, inputs, start):
    """Return trajectories (trial, time, latent) by Euler steps."""
    path = np.empty((len(start), N_STEPS, start.shape[1]))
    path[:, 0] = start
    for t in range(N_STEPS - 1):
        path[:, t + 1] = path[:, t] + DT * velocity(path[:, t], inputs[:, t])
    return path


def accuracy(task: str, path, truth, inputs) -> float:
    """Return the share of trials done right."""
    if task == "gated":
        clear = np.abs(truth[:, 100, 0]) > 0.1
        return float((np.sign(path[:, 100, 0]) == np.sign(truth[:, 100, 0]))[clear].mean())
    if task == "memory":
        angles = [np.arctan2(p[:, -1, 1], p[:, -1, 0]) for p in (path, truth)]
        return float((np.abs(np.angle(np.exp(1j * (angles[0] - angles[1])))) < 0.3).mean())
    size = np.linalg.norm(path, axis=2)
    late_on = np.array([size[i, int(row.sum()) - 1] for i, row in enumerate(inputs[..., 0])])
    turned = np.abs(
        late_on - np.linalg.norm(truth, axis=2)[np.arange(len(path)), inputs[..., 0].sum(1).astype(int) - 1]
    )
    return float(((turned < 0.2) & (size[:, -1] < 0.3)).mean())


class Trained:
    """The same network, trained through whole trials."""

    def __init__(self, task: str, n: int, iterations: int):
        generator = torch.Generator().manual_seed(0)
        inputs, start = trials_of(task, 1)
        goal = torch.from_numpy(run(FIELDS[task], inputs, start))
        v, rank, p = torch.from_numpy(inputs), start.shape[1], inputs.shape[2]
        shapes = ((n, rank), (n, p), (n,), (n, rank))
        self.leaves = [
            (size * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()
            for shape, size in zip(shapes, (1.0, 1.0, 1.0, n**-0.5), strict=True)
        ]
        optimiser = torch.optim.Adam(self.leaves, 1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
        for _ in range(iterations):
            chosen = torch.randint(N_TRIALS, (32,), generator=generator)
            optimiser.zero_grad()
            z, loss = goal[chosen, 0], torch.zeros((), dtype=torch.float64)
            for t in range(N_STEPS - 1):
                z = z + DT * self.field(z, v[chosen, t])
                loss = loss + ((z - goal[chosen, t + 1]) ** 2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.leaves, 1.0)
            optimiser.step()
            schedule.step()

    def field(self, z, v):
        """Return dz/dt of tensors."""
        left, within, bias, weights = self.leaves
        return -z + torch.tanh(z @ left.T + v @ within.T + bias) @ weights

    def velocity(self, z, v):
        """Return dz/dt of arrays."""
        with torch.no_grad():
            return self.field(torch.from_numpy(z), torch.from_numpy(v)).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=400)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    columns = "".join(f"{name:>8}" for name in ("box", "trials", "inside"))
    print(f"{'task':8} {'N':>4} {columns}  {'inputs':>7} {'CPU s':>7} {'gradient':>9} {'CPU s':>7}")
    for task, g in FIELDS.items():
        inputs, start = trials_of(task, 2)
        truth = run(g, inputs, start)
        for n in (20, 50, 200):

            def fitted(sampler, mode="auto", g=g, n=n):
                rng = np.random.default_rng(0)
                return fit_field(g, sampler, tau=1.0, n_neurons=n, n_samples=4000, ridge=1e-6, input_mode=mode, rng=rng)

            began = time.process_time()
            field = fitted(points_along(task))
            seconds = time.process_time() - began
            mine = [
                accuracy(task, run(one.velocity, inputs, start), truth, inputs)
                for one in (fitted(points_of(task)), field, fitted(points_along(task), "neuron"))
            ]
            resumed = time.process_time()
            trained = Trained(task, n, asked.iterations)
            spent = time.process_time() - resumed
            theirs = accuracy(task, run(trained.velocity, inputs, start), truth, inputs)
            enter = "latents" if field.latent_input_weights is not None else "neurons"
            shown = "".join(f"{value:8.3f}" for value in mine)
            print(f"{task:8} {n:4} {shown}  {enter:>7} {seconds:7.3f} {theirs:9.3f} {spent:7.1f}", flush=True)


if __name__ == "__main__":
    main()
