"""Networks by least squares against gradient training and FORCE: known fields, one thread, CPU seconds.

    python benchmarks/least_squares.py                  # all tables, about five minutes
    python benchmarks/least_squares.py batch            # one of: batch, gradient, online, noise
    python benchmarks/least_squares.py batch --seeds 20

Fields in latents of standard deviation about 1 (tests/planted_fields.py): Van der Pol (tau 1), Lorenz (tau 0.1),
bistable z - z³, Wilson-Cowan, and a network of 5 neurons. Error: mean squared error of dz/dt over its variance on 4000
other points. `period` is the error of the period of a free run, `rmse` that of its first period over the standard
deviation; `valid` the time until a free run is 0.4 of the attractor's size away, in Lyapunov times (20 starts).

The bars: Van der Pol, tanh, 100 neurons, ridge 1e-8: error <= 4e-5 in <= 0.05 CPU s, and at least 500 times faster than
gradient training to the same error; 200 neurons, default ridge, rates with 1 % noise: error <= 3e-3; learning online
beats FORCE from 50 neurons on, and with disturbed states every run stays on the cycle at 100.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import planted_fields as planted  # noqa: E402
from nwb_lrrnn.models.least_squares.features import Features, draw_features  # noqa: E402
from nwb_lrrnn.models.least_squares.field import fit_field_samples  # noqa: E402
from nwb_lrrnn.models.least_squares.force import ForceNetwork  # noqa: E402
from nwb_lrrnn.models.least_squares.online import FieldLearner  # noqa: E402

STEP = 0.01
LYAPUNOV = 0.9056  # of the Lorenz system, per unit of time


def teacher():
    """Return the field of a network of 5 tanh neurons and rank 2."""
    rng = np.random.default_rng(7)
    left, right, bias = rng.standard_normal((5, 2)), 1.5 * rng.standard_normal((5, 2)), rng.standard_normal(5)
    return planted.Target(lambda z: -z + np.tanh(z @ left.T + bias) @ right / 2, 1.0, 2, (2.0, 2.0))


TARGETS = {
    "vdp": planted.VAN_DER_POL,
    "lorenz": planted.Target(planted.lorenz, 0.1, 3, ()),
    "bistable": planted.BISTABLE,
    "wc": planted.WILSON_COWAN,
    "teacher5": teacher(),
}


def draws(name: str, n: int, seed: int, *, test: bool = False):
    """Return n samples of a target: points and velocity."""
    target = TARGETS[name]
    if name != "lorenz":
        return planted.samples(target, n, seed)
    z = planted.on_lorenz(n, seed, noise=0.0 if test else 0.2)
    return z, planted.lorenz(z)


class Cycle:
    """The cycle of the Van der Pol field, and how well a free run keeps to it."""

    def __init__(self):
        start = planted.runge_kutta(planted.van_der_pol, np.array([1.4, 0.0]), STEP, 5000)[-1]
        self.path = planted.runge_kutta(planted.van_der_pol, start, STEP, 12 * 667)
        self.period = period_of(self.path)
        self.n = round(self.period / STEP)
        self.sd = self.path[: self.n].std()

    def judge(self, velocity) -> tuple[float, float, bool]:
        """Return rmse of the first period, error of the period, and whether the run is on the cycle 10 periods on."""
        with np.errstate(all="ignore"):
            run = planted.runge_kutta(velocity, self.path[0], STEP, 10 * self.n)
        return self.judge_run(run)

    def judge_run(self, run, start: int = 0) -> tuple[float, float, bool]:
        """Return the same of a run (time, 2) that begins `start` steps into the cycle."""
        missed = run[: self.n] - self.path[start : start + self.n]
        late = np.abs(run[-self.n :]).max(0) - np.abs(self.path).max(0)
        stays = bool(np.isfinite(late).all() and np.abs(late).max() < 0.1)
        return (
            float(np.sqrt(np.mean(missed**2)) / self.sd),
            abs(period_of(run) / self.period - 1) if stays else np.nan,
            stays,
        )


def period_of(path) -> float:
    """Return the mean time between upward crossings of 0 of the first latent, NaN where there are none."""
    x = path[:, 0]
    up = np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0))
    if len(up) < 2:
        return float("nan")
    times = up - x[up] / (x[up + 1] - x[up])
    return float((times[-1] - times[0]) / (len(times) - 1) * STEP)


def valid_time(velocity) -> float:
    """Return the median time until a free run on the Lorenz attractor goes astray, in Lyapunov times."""
    starts = planted.on_lorenz(2000, 5)[::100]
    n = int(12 / LYAPUNOV / STEP)
    truth = planted.runge_kutta(planted.lorenz, starts, STEP, n)
    with np.errstate(all="ignore"):
        run = planted.runge_kutta(velocity, starts, STEP, n)
    missed = np.linalg.norm(run - truth, axis=-1) / np.sqrt((truth**2).sum(-1).mean())
    astray = ~(missed < 0.4)
    first = np.where(astray.any(0), astray.argmax(0), n)
    return float(np.median(first) * STEP * LYAPUNOV)


def batch(seeds: int) -> None:
    print(f"\nregression, gaussian basis, ridge 1e-8, T = 2000, medians over {seeds} seeds")
    print(f"{'field':9} {'phi':5} {'N':>4} {'error':>9} {'rmse':>9} {'period':>9} {'valid':>6} {'CPU s':>7}")
    cycle = Cycle()
    for name in TARGETS:
        at, truth = draws(name, 4000, 999, test=True)
        for phi in ("tanh", "relu"):
            for n in (20, 100, 200):
                rows = []
                for seed in range(seeds):
                    z, dz = draws(name, 2000, seed)
                    began = time.process_time()
                    field = fit_field_samples(
                        z, dz, tau=TARGETS[name].tau, n_neurons=n, nonlinearity=phi, basis="gaussian", ridge=1e-8,
                        rng=np.random.default_rng(seed),
                    )  # fmt: skip
                    seconds = time.process_time() - began
                    error = planted.error_of(field.velocity(at), truth)
                    runs = (np.nan, np.nan, np.nan)
                    if name == "vdp":
                        runs = (*cycle.judge(field.velocity)[:2], np.nan)
                    elif name == "lorenz" and seed < 3:
                        runs = (np.nan, np.nan, valid_time(field.velocity))
                    rows.append((error, *runs, seconds))
                shown = [np.nan if np.isnan(column).all() else np.nanmedian(column) for column in np.array(rows).T]
                error, rmse, period, valid, seconds = shown
                print(
                    f"{name:9} {phi:5} {n:4} {error:9.1e} {rmse:9.1e} {period:9.1e} {valid:6.2f} {seconds:7.3f}",
                    flush=True,
                )


def noise(seeds: int) -> None:
    print(f"\nVan der Pol, tanh, 200 neurons, rates with 1 % noise, medians over {seeds} seeds")
    at, truth = draws("vdp", 4000, 999)
    for ridge in (1e-12, 1e-8, 1e-6, "noise", 1e-2):
        errors = []
        for seed in range(seeds):
            z, dz = draws("vdp", 2000, seed)
            rng = np.random.default_rng(seed)
            field = fit_field_samples(z, dz, tau=1.0, n_neurons=200, ridge=ridge, rng=rng)
            disturbed = field.velocity(at) + 0.01 * rng.standard_normal((4000, 200)) @ field.weights
            errors.append([planted.error_of(field.velocity(at), truth), planted.error_of(disturbed, truth)])
        clean, noisy = np.median(errors, axis=0)
        print(f"ridge {ridge!s:>6}: error {clean:.1e} without noise, {noisy:.1e} with it", flush=True)


def gradient(iterations: int, bptt: int) -> None:
    print("\nVan der Pol, tanh, 100 neurons: the same network by gradient (Adam 1e-2, cosine), one seed")
    z, dz = draws("vdp", 2000, 0)
    at, truth = draws("vdp", 4000, 999)
    cycle, times = Cycle(), []
    for seed in range(7):
        began = time.process_time()
        field = fit_field_samples(
            z, dz, tau=1.0, n_neurons=100, basis="gaussian", ridge=1e-8, rng=np.random.default_rng(seed)
        )
        times.append(time.process_time() - began)
    seconds, error = float(np.median(times)), planted.error_of(field.velocity(at), truth)
    rmse = cycle.judge(field.velocity)[0]
    print(f"least squares        {seconds:8.3f} CPU s  error {error:.1e}  rmse {rmse:.1e}", flush=True)
    for what, steps in (("velocity", iterations), ("trajectories", bptt)):
        network = TorchField(100, 0)
        data = torch.from_numpy(z), torch.from_numpy(dz)
        spent, reached = network.train(what, *data, steps, error, lambda v: planted.error_of(v(at), truth))
        e, r = planted.error_of(network.velocity(at), truth), cycle.judge(network.velocity)[0]
        note = f"reached the error of least squares after {reached:.1f} s" if reached else "never as good"
        ratio = (reached or spent) / seconds
        print(
            f"Adam, {what:12}   {spent:8.3f} CPU s  error {e:.1e}  rmse {r:.1e}  {note}: {ratio:.0f} times or more",
            flush=True,
        )


class TorchField:
    """The same network, all of it trained by gradient."""

    def __init__(self, n: int, seed: int):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape, scale=1.0):
            return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()

        self.left, self.bias, self.weights = draw(n, 2), draw(n), draw(n, 2, scale=n**-0.5)

    def field(self, z):
        """Return dz/dt of a tensor."""
        return -z + torch.tanh(z @ self.left.T + self.bias) @ self.weights

    def velocity(self, z):
        """Return dz/dt of an array."""
        with torch.no_grad():
            return self.field(torch.from_numpy(np.asarray(z, dtype=float))).numpy()

    def train(self, what, z, dz, steps, wanted, error_now) -> tuple[float, float | None]:
        """Return the CPU seconds of all steps, and those after which the error was the wanted one."""
        leaves = [self.left, self.bias, self.weights]
        optimiser = torch.optim.Adam(leaves, 1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        generator = torch.Generator().manual_seed(0)
        h, spent, reached = 0.05, 0.0, None
        paths = torch.from_numpy(planted.runge_kutta(planted.van_der_pol, z.numpy()[:400], h, 41))
        for k in range(steps):
            began = time.process_time()
            optimiser.zero_grad()
            if what == "velocity":
                loss = ((self.field(z) - dz) ** 2).mean()
            else:
                chosen = paths[:, torch.randint(paths.shape[1], (50,), generator=generator)]
                state, loss = chosen[0], torch.zeros((), dtype=torch.float64)
                for t in range(1, 41):
                    state = rk4(self.field, state, h)
                    loss = loss + ((state - chosen[t]) ** 2).mean() / 40
            loss.backward()
            torch.nn.utils.clip_grad_norm_(leaves, 1.0)
            optimiser.step()
            schedule.step()
            spent += time.process_time() - began
            if reached is None and k % 100 == 99 and error_now(self.velocity) <= wanted:
                reached = spent
        return spent, reached


def rk4(field, z, h):
    k1 = field(z)
    k2 = field(z + h / 2 * k1)
    k3 = field(z + h / 2 * k2)
    k4 = field(z + h * k3)
    return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def online(seeds: int) -> None:
    print(f"\none pass of 10 periods of Van der Pol, an update every other step, penalty 1e-4, {seeds} seeds")
    print(f"{'N':>4} {'learner':10} {'rmse':>9} {'period':>9} {'on cycle':>9} {'CPU s':>7}")
    cycle = Cycle()
    n_train = 10 * cycle.n
    for n in (20, 50, 100):
        for states in ("clamped", "perturbed", "force"):
            rows = []
            for seed in range(seeds):
                began = time.process_time()
                if states == "force":
                    network = ForceNetwork(n, 2, dt=STEP, tau=10 * STEP, rng=np.random.default_rng(seed))
                    network.train(cycle.path[:n_train])
                    seconds = time.process_time() - began
                    judged = cycle.judge_run(network.run(10 * cycle.n), start=n_train % cycle.n)
                else:
                    learner = _learner(cycle.path, n, 1.0, seed)
                    seen = cycle.path[:n_train:2]
                    if states == "perturbed":
                        seen = seen + 0.1 * np.random.default_rng(seed).standard_normal(seen.shape)
                    for row in seen:
                        learner.learn(row[None], planted.van_der_pol(row[None]))
                    seconds = time.process_time() - began
                    judged = cycle.judge(learner.velocity)
                rows.append((*judged, seconds))
            rmse, period, stays, seconds = np.array(rows, dtype=float).T
            period = np.nanmedian(period) if np.isfinite(period).any() else np.nan
            print(
                f"{n:4} {states:10} {np.median(rmse):9.1e} {period:9.1e} {int(stays.sum()):6}/{seeds} "
                f"{np.median(seconds):7.2f}",
                flush=True,
            )
    print("\none pass of 20000 steps (0.005) of Lorenz, valid time in Lyapunov times, medians over 3 seeds")
    path = planted.runge_kutta(planted.lorenz, planted.on_lorenz(100, 1)[0], 0.005, 20_000)
    for n in (50, 100, 200):
        found = []
        for seed in range(3):
            learner = _learner(path, n, 0.1, seed)
            learner.learn(path[::2], planted.lorenz(path[::2]))
            disturbed = _learner(path, n, 0.1, seed)
            states = path[::2] + 0.1 * np.random.default_rng(seed).standard_normal(path[::2].shape)
            disturbed.learn(states, planted.lorenz(states))
            found.append((valid_time(learner.velocity), valid_time(disturbed.velocity), _forced(path, n, seed)))
        clamped, perturbed, forced = np.median(found, axis=0)
        print(f"{n:4} clamped {clamped:.2f}  perturbed {perturbed:.2f}  FORCE {forced:.2f}", flush=True)


def _forced(path, n: int, seed: int) -> float:
    """Return the valid time of a FORCE network that has learnt a path and runs on from its end."""
    step = 0.005
    network = ForceNetwork(n, 3, dt=step, tau=10 * step, rng=np.random.default_rng(seed))
    network.train(path)
    more = planted.runge_kutta(planted.lorenz, path[-1], step, 2651)[1:]
    missed = np.linalg.norm(network.run(2650) - more, axis=1) / np.sqrt((path**2).sum(1).mean())
    astray = ~(missed < 0.4)
    return float((astray.argmax() if astray.any() else 2650) * step * LYAPUNOV)


def _learner(path, n: int, tau: float, seed: int) -> FieldLearner:
    scale = path.std(0)
    nothing: np.ndarray = np.zeros(0)
    drawn: Features = draw_features((path - path.mean(0)) / scale, n, basis="gaussian", rng=np.random.default_rng(seed))
    return FieldLearner(drawn.of_units(path.mean(0), scale, nothing, nothing), tau, penalty=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="batch, noise, gradient, online; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=5000, help="of Adam on the velocity")
    parser.add_argument("--bptt", type=int, default=500, help="of Adam through trajectories of 40 steps")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tables = asked.tables or ["batch", "noise", "gradient", "online"]
    if "batch" in tables:
        batch(asked.seeds)
    if "noise" in tables:
        noise(asked.seeds)
    if "gradient" in tables:
        gradient(asked.iterations, asked.bptt)
    if "online" in tables:
        online(max(asked.seeds, 10))


if __name__ == "__main__":
    main()
