# pyright: basic, reportUnnecessaryTypeIgnoreComment=true
"""What a type checker knows of a user's script: pyright reads this file in `make lint`, and nothing runs it.

A type that is not known is an error here, and so is a wrong name that is not found: its `ignore` is then unnecessary.
"""

from typing import Any, assert_type

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

import nwb_lrrnn as lr
from nwb_lrrnn.compare import Comparison, RankChoice
from nwb_lrrnn.groups import GroupSearch, GroupVerdict
from nwb_lrrnn.models.base import LatentModel
from nwb_lrrnn.plotting import Page, plot_flow, plot_history, plot_latents, plot_summary


def reading() -> xr.DataArray:
    recording = assert_type(lr.open_nwb("session.nwb"), lr.Recording)
    assert_type(recording.trials, xr.Dataset)
    assert_type(recording.units, pd.DataFrame)
    assert_type(recording.to_datatree(), xr.DataTree)
    X = assert_type(recording.spikes(bin_size=0.02, align="go_cue_time", window=(0.0, 1.0)), xr.DataArray)
    assert_type(recording.series("velocity", like=X), xr.DataArray)
    assert_type(recording.events("lick", like=X), xr.DataArray)
    recording.spikes(0.02, window=(0, 1, 2))  # pyright: ignore[reportArgumentType]
    recording.spikes(0.02, on_bad_spikes="srt")  # pyright: ignore[reportArgumentType]
    recording.series("x", repair="srt")  # pyright: ignore[reportArgumentType]
    return X


def fitting(X: xr.DataArray) -> None:
    model = assert_type(lr.LowRankRNN(rank=2).fit(X), lr.LowRankRNN)
    assert_type(model.history_, xr.Dataset)
    assert_type(model.dynamics_, lr.LowRankDynamics)
    assert_type(model.largest_jump_, float)
    assert_type(model.n_iter_, int)
    assert_type(model.is_stable_, bool)
    assert_type(model.loadings_, np.ndarray)
    assert_type(model.score(X), float)
    assert_type(model.score_trials(X), xr.DataArray)
    assert_type(model.simulate(2, 10), xr.Dataset)
    assert_type(model.to_dataset(), xr.Dataset)
    assert_type(lr.LowRankRNN.from_dataset(model.to_dataset()), lr.LowRankRNN)
    smc = lr.SMCLowRankRNN(rank=2, device="cuda:1").fit(X)
    assert_type(smc.trajectories(X), xr.DataArray)
    assert_type(smc.transform(X, posterior="filtered"), xr.DataArray)
    assert_type(smc.stayed_linear_, bool)
    dis = lr.DisRNN(rank=2, n_groups=2).fit(X)
    assert_type(dis.connectivity(), xr.DataArray)
    assert_type(dis.group_ranks_, tuple[int, ...])
    assert_type(lr.LinearStateSpace(rank=1).fit(X).modes(), xr.Dataset)


def kinds_of_x(
    model: lr.LowRankRNN, X: xr.DataArray, frame: pd.DataFrame, array: NDArray[np.int64], trials: list[xr.DataArray]
) -> None:
    latents = assert_type(model.transform(X), xr.DataArray)
    assert_type(model.rates(latents), xr.DataArray)
    assert_type(model.inverse_transform(latents), xr.DataArray)
    assert_type(model.fit_transform(X), xr.DataArray)
    assert_type(model.transform(frame), pd.DataFrame)
    assert_type(model.transform(array), NDArray[Any])
    assert_type(model.transform(trials), list[xr.DataArray])
    assert_type(model.rates([frame]), list[pd.DataFrame])
    assert_type(lr.LinearStateSpace().transform(trials, posterior="delayed"), list[xr.DataArray])
    assert_type(lr.Smooth(sd=0.1).fit_transform(X), xr.DataArray)
    assert_type(lr.ZScore().fit(X).inverse_transform(frame), pd.DataFrame)
    assert_type(lr.Resample(rate=10.0).fit_transform(trials), list[xr.DataArray])
    assert_type(lr.chop(X, 1.0), xr.DataArray)
    assert_type(lr.split_trials(X), tuple[xr.DataArray, xr.DataArray])


def judging(model: lr.LowRankRNN, dis: lr.DisRNN, X: xr.DataArray) -> None:
    assert_type(lr.compare_baselines(model, X), Comparison)
    assert_type(lr.find_fixed_points(model), xr.Dataset)
    assert_type(lr.judge_groups(dis, X), GroupVerdict)
    assert_type(lr.select_groups(dis, X), GroupSearch)
    assert_type(lr.select_rank(dis, X, [1, 2]), RankChoice)
    assert_type(lr.load_model("result.nwb"), LatentModel)
    assert_type(lr.read_results("result.nwb"), xr.DataTree)
    axes = assert_type(plot_flow(model), Axes)
    assert_type(plot_latents(X), Page)
    assert_type(plot_latents(X, ax=axes), Axes)
    assert_type(plot_history(model), Axes)
    assert_type(plot_summary(model, X), Page)


def wrong_names(model: lr.LowRankRNN, X: xr.DataArray) -> None:
    lr.LowRankRNN(rank="two")  # pyright: ignore[reportArgumentType]
    lr.LowRankRNN(latents=2)  # pyright: ignore[reportCallIssue]
    lr.LowRankRNN(nonlinearity="tahn")  # pyright: ignore[reportArgumentType]
    lr.LowRankRNN(likelihood="poison")  # pyright: ignore[reportArgumentType]
    lr.LowRankRNN(device="gpu")  # pyright: ignore[reportArgumentType]
    lr.LowRankRNN(dtype="float16")  # pyright: ignore[reportArgumentType]
    lr.SMCLowRankRNN(proposal="optimum")  # pyright: ignore[reportArgumentType]
    lr.SMCLowRankRNN(posterior="smooth")  # pyright: ignore[reportArgumentType]
    lr.DisRNN(likelihood="bernoulli")  # pyright: ignore[reportArgumentType]
    lr.DisRNN(noise="both")  # pyright: ignore[reportArgumentType]
    lr.LinearStateSpace(link="log")  # pyright: ignore[reportArgumentType]
    lr.LinearStateSpace().transform([[1.0]], posterior="filterd")  # pyright: ignore[reportArgumentType, reportCallIssue]
    lr.LowRankDynamics(X.values, X.values, dt=0.1, tau=1.0, readout="spikes")  # pyright: ignore[reportArgumentType]
    lr.Resample(rate=1.0, how="median")  # pyright: ignore[reportArgumentType]
    lr.write_results("a.nwb", model, if_exists="new_one")  # pyright: ignore[reportArgumentType]
    print(model.histroy_)  # pyright: ignore[reportAttributeAccessIssue]
