"""Reading through a network as a user does: the same numbers as from the disk, in few requests, with nothing secret."""

import logging
import pickle

import numpy as np
import pytest
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

import nwb_lrrnn as lr
from nwb_lrrnn.io.errors import AccessDeniedError, RemoteError, UnreachableError
from nwb_lrrnn.io.files import connection as remote
from realistic_nwb import write_realistic
from small_archive import SmallArchive, without_accounts
from small_nwb import add_series, add_trials, add_units, new_nwb
from small_server import RangeServer, hasten


@pytest.fixture(scope="module")
def realistic(tmp_path_factory):
    return write_realistic(tmp_path_factory.mktemp("realistic") / "hour.nwb")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    hasten(monkeypatch)
    yield
    remote.forget()


def test_four_steps_take_few_requests(realistic):
    path, spikes, lfp = realistic
    with RangeServer({"hour.nwb": path}) as server:
        recording = lr.open_nwb(server.url("hour.nwb"))
        assert len(recording.fittable) == 2
        assert server.counts.requests <= 12
        counts = recording.spikes(bin_size=0.02)
        assert recording.trials.sizes["trial"] == 600
        volts = recording.series("ElectricalSeriesLFP", units=list(range(64)))
        read = volts.isel(time=slice(62_500, 75_000)).values
        assert server.counts.requests <= 30
        assert server.counts.at_once <= 8
    np.testing.assert_array_equal(read, lfp[62_500:75_000, :64] * np.float32(4.69e-6))
    first = counts.isel(time=slice(0, 500)).values  # after the server has gone: the spikes are there
    np.testing.assert_array_equal(first.sum(axis=0), [np.sum(np.floor(times / 0.02 + 1e-6) < 500) for times in spikes])


@pytest.fixture
def small(tmp_path, rng):
    path = tmp_path / "small.nwb"
    with new_nwb(path) as file:
        add_units(file, [np.sort(rng.uniform(0, 20, 200)) for _ in range(4)], quality=["good", "mua", "good", "good"])
        add_trials(file, np.arange(0.0, 20, 2), np.arange(1.5, 21.5, 2), cue=np.arange(0.5, 20.5, 2))
        add_series(file, "acquisition/lfp", rng.normal(size=(1000, 3)), rate=50.0)
        add_series(file, "acquisition/pupil", rng.normal(size=400), timestamps=np.sort(rng.uniform(0, 20, 400)))
    return path


def arrays(recording):
    """Return one array of each kind."""
    X = recording.spikes(bin_size=0.1, align="cue", window=(-0.5, 1.0), units="quality == 'good'")
    pupil = recording.series("pupil", like=X)
    return {"X": X, "pupil": pupil, "lfp": recording.series("lfp"), "binned": recording.series("lfp", bin_size=0.1)}


def test_values_are_those_of_the_local_file(small):
    with RangeServer({"small.nwb": small}) as server, lr.open_nwb(server.url("small.nwb")) as there:
        here = lr.open_nwb(small)
        for name, array in arrays(here).items():
            streamed = arrays(there)[name]
            xr.testing.assert_equal(array.compute(), streamed.compute())
            assert streamed.attrs["source"] == server.url("small.nwb")
        assert there.problems == here.problems
        one, other = here.to_datatree().compute(), there.to_datatree().compute()
        assert set(one.groups) == set(other.groups)
        for group in one.groups:
            xr.testing.assert_equal(one[group].to_dataset(), other[group].to_dataset())


def test_pynwb_reads_through_the_network(tmp_path, rng):
    lr.write_recording(tmp_path / "a.nwb", rng.poisson(1.0, (3, 10, 2)), bin_size=0.02, random_state=0)
    with RangeServer({"a.nwb": tmp_path / "a.nwb"}) as server:
        with lr.open_nwb(server.url("a.nwb")).as_pynwb() as nwbfile:
            assert len(nwbfile.units) == 2


def test_from_an_archive_to_results_that_say_where_from(small, tmp_path):
    with without_accounts(tmp_path / "home"), SmallArchive() as archive, archive.known_as("dandi"):
        archive.add("000140", "sub-1/sub-1_ecephys.nwb", small)
        recording = lr.open_nwb("DANDI:000140/draft/sub-1/sub-1_ecephys.nwb")
        X = recording.spikes(bin_size=0.1, align="cue", window=(-0.5, 1.0)).load()
        assert len(archive.requests) <= 12
        model = lr.LinearStateSpace(rank=1, max_iter=2, random_state=0)
        with pytest.warns(ConvergenceWarning):
            model.fit(X)
        path = lr.write_results(tmp_path / "result.nwb", model, latents=model.transform(X), source=recording)
        source = lr.read_results(path)["source"].attrs
    assert source["uri"] == "dandi://dandi/000140@draft/sub-1/sub-1_ecephys.nwb"
    assert source["version_tag"].startswith("sha256:")
    with pytest.raises(ValueError, match="is not written into: it is not a file on this machine"):
        lr.write_results(model=model, latents=model.transform(X), into=recording.uri)


def test_a_server_that_fails_half_way_is_named(small):
    with RangeServer({"small.nwb": small}) as server:
        lfp = lr.open_nwb(server.url("small.nwb")).series("lfp")
        server.faults = lambda request: "503"
        remote.forget()
        with pytest.raises(UnreachableError, match=r"small\.nwb: .* could not be read in 6 tries; the last one: .*503"):
            lfp.values  # noqa: B018
        server.faults = None
        assert np.isfinite(lfp.values).all()


def test_signatures_stay_in_this_process(small, caplog):
    caplog.set_level(logging.DEBUG)
    with RangeServer({"small.nwb": small}, signed=True) as server:
        recording = lr.open_nwb(server.sign("small.nwb"))
        lfp = recording.series("lfp")
        assert lfp.shape == (1000, 3)
        assert np.isfinite(lfp.values).all()
        graph = pickle.dumps((recording.source, dict(lfp.data.__dask_graph__())))
        told = [graph.decode("latin-1"), repr(recording), str(lfp), caplog.text, recording.uri]
        assert not any(server.signature in text for text in told)
        remote.forget()
        remote._registry.locations.clear()  # as in another process
        with pytest.raises(AccessDeniedError, match="not passed on to other processes") as refusal:
            lfp.values  # noqa: B018
        assert isinstance(refusal.value, RemoteError)
