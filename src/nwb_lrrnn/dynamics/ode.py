"""A low-rank network is a neural ODE with one hidden layer: its fields from those of the layers, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.parameters import flag, positive

Array = NDArray[np.floating]

_IDENTITIES = {"identity": (1.0,), "relu": (1.0, -1.0), "softplus": (1.0, -1.0)}  # sum of s phi(s x) is x


def network_of(
    W_in, b, W_out, tau, nonlinearity, output_bias, input_weights, latent_input_weights, thresholds, leak, dt
) -> dict:
    """Return the fields of the network of these layers (see `LowRankDynamics.from_ode`)."""
    left, bias, out = _array("W_in", W_in, 2), _array("b", b, 1), _array("W_out", W_out, 2)
    n, rank = left.shape
    if bias.shape != (n,):
        raise ValueError(f"b: got shape {bias.shape}, wanted ({n},), one for every row of W_in")
    if out.shape != (rank, n):
        raise ValueError(f"W_out: got shape {out.shape}, wanted ({rank}, {n}), as that of the last torch.nn.Linear")
    tau = positive("tau", tau, hint=" seconds")
    within = None if input_weights is None else _array("input_weights", input_weights, 2)
    if not flag("leak", leak):
        left, bias, out, within = _without_leak(left, bias, out, within, tau, nonlinearity)
    return {
        "left_vectors": left,
        "right_vectors": len(left) * tau * out.T,
        "dt": tau / 100 if dt is None else dt,
        "tau": tau,
        "nonlinearity": nonlinearity,
        "bias": bias,
        "thresholds": thresholds,
        "input_weights": within,
        "drive": None if output_bias is None else tau * _array("output_bias", output_bias, 1),
        "latent_input_weights": _times(tau, "latent_input_weights", latent_input_weights),
    }


def layer_of(net) -> dict:
    """Return the layers of a network (see `LowRankDynamics.to_ode`)."""
    if net.private_noise is not None:
        raise ValueError(
            "private_noise: got a network whose neurons have noise of their own, wanted one without; call "
            "replace(private_noise=None) for the field without it"
        )
    layer = {
        "W_in": np.array(net.left_vectors),
        "b": np.zeros(net.n_neurons) if net.bias is None else np.array(net.bias),
        "W_out": net.right_vectors.T / (net.n_neurons * net.tau),
        "tau": net.tau,
        "nonlinearity": net.nonlinearity,
        "dt": net.dt,
    }
    if net.drive is not None:
        layer["output_bias"] = net.drive / net.tau
    if net.latent_input_weights is not None:
        layer["latent_input_weights"] = net.latent_input_weights / net.tau
    for name in ("input_weights", "thresholds"):
        if getattr(net, name) is not None:
            layer[name] = np.array(getattr(net, name))
    return layer


def _without_leak(left, bias, out, within, tau: float, nonlinearity: str):
    """Return the layers with neurons more, whose output is z / tau."""
    if nonlinearity not in _IDENTITIES:
        raise ValueError(
            f"leak: got False with nonlinearity={nonlinearity!r}, wanted True or one of "
            f"{', '.join(map(repr, _IDENTITIES))}: only of these do a few neurons add up to z and cancel the leak; fit "
            "a network to samples of the field instead"
        )
    rank, signs = left.shape[1], _IDENTITIES[nonlinearity]
    more = np.concatenate([sign * np.eye(rank) for sign in signs])
    left, out = np.concatenate([left, more]), np.concatenate([out, more.T / tau], axis=1)
    bias = np.concatenate([bias, np.zeros(len(more))])
    if within is not None:
        within = np.concatenate([within, np.zeros((len(more), within.shape[1]))])
    return left, bias, out, within


def _times(factor: float, name: str, value: ArrayLike | None) -> Array | None:
    return None if value is None else factor * _array(name, value, 2)


def _array(name: str, value: ArrayLike, ndim: int) -> Array:
    array = np.asarray(value, dtype=float)
    if array.ndim != ndim:
        raise ValueError(f"{name}: got an array of shape {array.shape}, wanted {ndim} dimensions")
    return array
