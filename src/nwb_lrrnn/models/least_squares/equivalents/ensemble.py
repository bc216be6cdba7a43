"""`equivalent_networks`: an ensemble of networks that agree on the data, and what is the same in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.equivalents.asked import ask
from nwb_lrrnn.models.least_squares.equivalents.known import Known, known_of
from nwb_lrrnn.models.least_squares.equivalents.members import stacked
from nwb_lrrnn.models.least_squares.equivalents.posterior import Posterior, neurons_of, other_neurons
from nwb_lrrnn.models.least_squares.equivalents.rivals import (
    STANDARD,
    Rival,
    inputs_along,
    network_of_rival,
    rivals_of,
    steps_along,
)
from nwb_lrrnn.models.least_squares.equivalents.verdict import judged, sentence
from nwb_lrrnn.parameters import choose, fraction, positive, whole_number

if TYPE_CHECKING:
    from nwb_lrrnn.models.least_squares.estimator import LeastSquaresRNN

Array = NDArray[np.floating]

NEURONS = ("new", "same")


def equivalent_networks(
    model: LeastSquaresRNN,
    data: Any = None,
    *,
    inputs: Any = None,
    n_networks: int = 40,
    neurons: str = "new",
    rivals: Sequence[str] | Mapping[str, Rival] | None = STANDARD,
    path: ArrayLike | None = None,
    path_inputs: ArrayLike | None = None,
    level: float = 0.9,
    tolerance: float = 0.1,
    random_state: int | None = None,
) -> xr.Dataset:
    r"""Return networks that agree on the data and differ elsewhere, with intervals for what is asked of them.

    Three kinds: the network of the model; draws from the posterior of its regression; and rivals that make the same
    path :math:`z^*` by other dynamics, each under an input of its own,
    :math:`u_t = (z^*_{t+1} - F(z^*_t)) / \alpha` (Arora & Pillow 2025): static against time-varying dynamics, which no
    passive recording of :math:`z^*` tells apart. What is the same in all may be believed.

    Parameters
    ----------
    model : LeastSquaresRNN
        Fitted to a recording, or to a field or samples of one.
    data : like X of `fit`, or tuple of arrays
        What it was fitted to. Of a recording, X: latents and their uncertainty are those of the model's smoother. Of a
        field or of samples, None (they are kept), or others, (latents, velocity) or (latents, velocity, inputs).
    inputs : like inputs of `fit`, optional
        Beside X.
    n_networks : int
        Draws from the posterior.
    neurons : {"new", "same"}
        Whether each draw has neurons of its own: then what hangs on which neurons were drawn, such as the overlaps,
        differs too.
    rivals : names, or dict of callables, or None
        "leak" (dz/dt = -z / tau), "growing" (dz/dt = z / (2 tau)), or fields dz/dt = g(z), (sample, latent) both.
    path, path_inputs : arrays (time, latent), (time, input), optional
        What all networks share, in steps of the model. By default the latents of the longest trial, or a run of the
        network of ten time constants.
    level : float
        Share of the posterior within an interval.
    tolerance : float
        Half an interval relative to what it is of, up to which the networks are said to agree.
    random_state : int or None

    Returns
    -------
    ensemble : Dataset over `network`
        `kind` ("fitted", "posterior", "rival") and `name`; the networks (`network_of` rebuilds one); `path` and the
        `input` (network, time, latent) under which each follows it, small but for rivals; `field_error` and
        `path_error`, of dz/dt over its variance, rivals on the path having their input; of a recording
        `log_likelihood` (nats per bin).
        Asked of each: `velocity` at `probe` points, of which some are `is_beyond` the latents; `propagator` from the
        start of the path to its end, its largest `gain` of a push, and the mean `jacobian` between (1/s);
        `fixed_point` (NaN: a network has none within a standard deviation of there) and `fixed_point_rate` (1/s);
        `overlap`, `connectivity_norm`.
        Of all, over `among` ("without inputs": no rivals; "all"): `*_interval`, and over `quantity` their relative half
        `width` and `may_be_believed`. attrs["verdict"] says it in words.

    Raises
    ------
    TypeError, ValueError
        If the model is no LeastSquaresRNN with latents, or data, path or rivals do not fit it.

    Notes
    -----
    Posteriors are given the latents, and of one output at a time; that the latents of a recording hang on the network
    too is not in them. A rival, but for "leak", is as near to its field as as many neurons come.

    Examples
    --------
    >>> from nwb_lrrnn import LeastSquaresRNN
    >>> z = np.linspace(-1.5, 1.5, 200)[:, None]
    >>> model = LeastSquaresRNN(1, n_neurons=30, tau=1.0, random_state=0).fit_samples(z, z - z**3)
    >>> ensemble = equivalent_networks(model, n_networks=5, rivals=None, random_state=0)
    >>> bool(ensemble["may_be_believed"].sel(among="all", quantity="velocity"))
    True
    """
    number = whole_number("n_networks", n_networks, 2)
    choose("neurons", neurons, NEURONS)
    level, tolerance = fraction("level", level), positive("tolerance", tolerance)
    known = known_of(model, data, inputs, path, path_inputs)
    others = rivals_of(rivals, known)
    rng = np.random.default_rng(random_state)
    networks, kinds, names = [known.network], ["fitted"], ["fitted"]
    same = Posterior(known, neurons_of(known.network)) if neurons == "same" else None
    for k in range(number):
        law = Posterior(known, other_neurons(known, model.basis, rng)) if same is None else same
        networks.append(law.draw(rng))
        kinds.append("posterior")
        names.append(f"posterior {k}")
    for name, g in others.items():
        networks.append(network_of_rival(name, g, known, rng))
        kinds.append("rival")
        names.append(str(name))
    asked = xr.Dataset(ask(networks, known), coords={"kind": ("network", kinds), "name": ("network", names)})
    verdict = judged(asked, known.scale, known.network.tau, level, tolerance)
    return xr.Dataset(
        {**stacked(networks), **_shared(networks, known), **_agreement(networks, kinds, known)},
        attrs=_attrs(known.network) | {"verdict": sentence(verdict, bool(others))},
    ).merge(asked).merge(verdict)  # fmt: skip


def _shared(networks: list[LowRankDynamics], known: Known) -> dict:
    """Return the path, the inputs that each network needs to follow it, and the noise that an experiment has."""
    pushes = np.stack([inputs_along(network, known.path, known.path_inputs) for network in networks])
    scale = known.scale
    covariance = np.cov(known.latents.T, bias=True).reshape(len(scale), len(scale))
    found = {
        "path": (("time", "latent"), known.path),
        "input": (("network", "time", "latent"), pushes),
        "noise": (("latent",), known.noise),
        "latent_mean": (("latent",), known.latents.mean(axis=0)),
        "latent_covariance": (("latent", "by_latent"), covariance),
    }
    if known.path_inputs is not None:
        found["path_inputs"] = (("time", "input"), known.path_inputs)
    return found


def _agreement(networks: list[LowRankDynamics], kinds: list[str], known: Known) -> dict:
    """Return how well each network agrees with the samples and the path, and with the recording where there is one."""
    size = ((known.velocity - known.velocity.mean(axis=0)) ** 2).sum()
    errors = [((net.velocity(known.latents, known.inputs) - known.velocity) ** 2).sum() / size for net in networks]
    moves = known.path[1:] - known.path[:-1]
    along = ((moves - moves.mean(axis=0)) ** 2).sum()
    missed = []
    for network, kind in zip(networks, kinds, strict=True):
        goes = steps_along(network, known.path, known.path_inputs)
        pushed = network.alpha * inputs_along(network, known.path, known.path_inputs)[:-1] if kind == "rival" else 0.0
        missed.append(((goes + pushed - known.path[1:]) ** 2).sum() / max(along, 1e-300))
    found = {"field_error": (("network",), np.array(errors)), "path_error": (("network",), np.array(missed))}
    if known.score is not None:
        scores = [np.nan if kind == "rival" else known.score(net) for net, kind in zip(networks, kinds, strict=True)]
        found["log_likelihood"] = (("network",), np.array(scores))
    return found


def _attrs(network: LowRankDynamics) -> dict:
    return {
        "dt": network.dt,
        "tau": network.tau,
        "nonlinearity": network.nonlinearity,
        "filter_inputs": int(network.filter_inputs),
    }
