"""The pieces of a small made-up fit, for the tests of writing them to a processing module."""

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.io.writing.processing_module import write_module

BIN = 0.02
INFO = [("model", "name", "LowRankRNN"), ("model", "rank", 2)]
SESSION = {
    "session_description": "A monkey reaches",
    "session_start_time": "2020-01-02T03:04:05+00:00",
    "identifier": "source-1",
    "experimenter": ["Doe, Jane"],
    "institution": "I",
    "subject": {"subject_id": "m1", "species": "Macaca mulatta", "sex": "M", "age": "P5Y"},
}


def make_latents(n_trials=5, n_bins=20, align=None, rank=2, **coords):
    rng = np.random.default_rng(0)
    align = np.array([50.0, 10.0, 30.0, 20.0, 40.0])[:n_trials] if align is None else np.asarray(align)
    return xr.DataArray(
        rng.normal(size=(n_trials, n_bins, rank)),
        dims=("trial", "time", "latent"),
        coords={
            "trial": np.arange(n_trials) + 7,
            "time": -0.1 + (np.arange(n_bins) + 0.5) * BIN,
            "align_time": ("trial", align),
            "choice": ("trial", ["left", "right", "left", "left", "right"][:n_trials]),
            "start_time": ("trial", align - 0.5),
            **coords,
        },
        attrs={"bin_size": BIN, "source": "file.nwb"},
        name="latents",
    )


def make_loadings(n_units=4):
    rng = np.random.default_rng(1)
    return xr.Dataset(
        {"loading": (("unit", "latent"), rng.normal(size=(n_units, 2))), "offset": ("unit", rng.normal(size=n_units))},
        coords={
            "unit": np.arange(n_units) + 3,
            "source_row": ("unit", np.arange(n_units)),
            "depth": ("unit", np.linspace(0, 1, n_units)),
            "latent": [0, 1],
        },
    )


def make_state():
    return {
        "left_vectors": np.random.default_rng(2).normal(size=(30, 2)),
        "odd": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 0.1]),
        "empty": np.zeros((0, 3)),
        "steps": np.arange(6, dtype=np.int64).reshape(2, 3),
        "seed": np.array(2**63 - 1),
        "mask": np.array([True, False]),
        "single": np.float32([1.5, np.pi]),
        "eigenvalues": np.array([1 + 2j, 3 - 4j]),
        "likelihood": np.array("poisson"),
        "unit_ids": np.array(["a", "bé", ""]),
        "tau": np.array(0.1),
    }


def make_rates(latents):
    values = np.random.default_rng(3).random((*latents.shape[:-1], 4))
    coords = {name: c for name, c in latents.coords.items() if "latent" not in c.dims}
    return xr.DataArray(values, dims=(*latents.dims[:-1], "unit"), coords=coords, attrs={"units": "1/s"}, name="rates")


def make_tables():
    points = xr.Dataset(
        {
            "latents": (("point", "latent"), np.arange(6.0).reshape(3, 2)),
            "eigenvalue": (("point", "latent"), np.array([[1 + 1j, 1 - 1j]] * 3)),
            "jacobian": (("point", "target", "source"), np.arange(12.0).reshape(3, 2, 2)),
            "is_stable": ("point", [True, False, True]),
            "kind": ("point", ["node", "saddle", "focus"]),
        },
        coords={"latent": [0, 1], "temperature": 3.0},
        attrs={"tolerance": 1e-9, "seeds": [1, 2]},
    )
    metrics = pd.DataFrame({"score": [1.5, np.nan], "model": ["rnn", "mean"]}, index=["a", "b"])
    return {"fixed_points": points, "metrics": metrics}


def everything(path, **changes):
    latents = make_latents(observed=(("trial", "time"), np.arange(100).reshape(5, 20) % 7 > 0))
    pieces = {
        "session": SESSION,
        "latents": latents,
        "state": make_state(),
        "info": [*INFO, ("data", "note", 'a "text" with {braces: yes}'), ("data", "loss", float("nan"))],
        "loadings": make_loadings(),
        "rates": make_rates(latents),
        "tables": make_tables(),
    }
    return write_module(path, **{**pieces, **changes}), pieces
