"""From a recording to its dynamics to the smallest circuit: a fitted model reduced, and both flows side by side.

    python examples/smallest_network.py [PICTURE.png]

The data are simulated from a network of 100 neurons that turns around a cycle. Where the environment variable
NWB_LRRNN_DATA names a folder that holds nwb/aplysia_Jun0214da01.nwb (pedal ganglion of Aplysia: Bruno, Frost &
Humphries 2017), it is that recording instead, after the nerve was stimulated.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

import nwb_lrrnn as lr


def turning_network(n_units: int = 25) -> lr.LowRankDynamics:
    """Return a network of rank 2 with a limit cycle, seen by units with Gaussian noise."""
    rng = np.random.default_rng(0)
    m = rng.standard_normal((100, 2))
    return lr.LowRankDynamics(
        m,
        m @ np.array([[2.2, 0.9], [-0.9, 2.2]]),
        dt=0.02,
        tau=0.1,
        loadings=rng.standard_normal((n_units, 2)),
        observation_variance=np.full(n_units, 0.5),
    )


def data(n_trials: int) -> xr.DataArray:
    """Return trials (trial, time, unit): of the recording where there is one, else of the network."""
    path = Path(os.environ.get("NWB_LRRNN_DATA", "")) / "nwb" / "aplysia_Jun0214da01.nwb"
    if not path.is_file():
        return turning_network().simulate(n_trials, 60, random_state=1)["observations"]
    print(f"recording: {path.name}")
    with lr.open_nwb(path) as recording:
        return lr.chop(recording.spikes(bin_size=0.25).sel(time=slice(32, 122)).load(), 9.0)


def picture(model: lr.SMCLowRankRNN, small: lr.LowRankDynamics, latents: xr.DataArray, path: Path) -> None:
    """Draw the flow of both networks under the latents of the data."""
    import matplotlib.pyplot as plt  # pip install "nwb-lrrnn[plot]"

    from nwb_lrrnn.plotting import plot_flow

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for ax, network in zip(axes, (model.dynamics_, small), strict=True):
        plot_flow(network, latents=latents, ax=ax)
        ax.set_title(f"{network.n_neurons} neurons")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(n_trials: int = 24, max_epochs: int = 200, n_init: int = 3, to: Path | None = None) -> xr.Dataset:
    X = data(n_trials)
    held = np.arange(len(X)) % 4 == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = lr.SMCLowRankRNN(rank=2, n_neurons=50, max_epochs=max_epochs, random_state=0).fit(X[~held])
    latents = model.transform(X[~held])
    small, path = lr.smallest_network(
        model, latents=latents, n_steps=X.sizes["time"] // 2, max_size=8, n_init=n_init, random_state=0
    )
    print(path[["error", "r2", "largest_weight", "selected"]].to_dataframe().round(4))
    chosen = path.sel(size=path.attrs["size"])
    print(
        f"{model.dynamics_.n_neurons} neurons become {small.n_neurons}; held-out runs: R2 {float(chosen['r2']):.4f}; "
        f"the model {'stayed at its linear start' if model.stayed_linear_ else 'left its linear start'}"
    )
    # the same filter says how well each of the two explains trials that neither has seen
    for network in (model.dynamics_, small):
        score = lr.LeastSquaresRNN.from_dataset(network.to_dataset()).score(X[held])
        print(f"{network.n_neurons:3} neurons: {score:.3f} nats per bin on held-out trials")
    if to is not None:
        picture(model, small, latents, to)
    return path


if __name__ == "__main__":
    main(to=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
