"""Counts around events that a file holds as BinnedAlignedSpikes: shown, read, checked, fitted."""

import pickle
import re

import h5py
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn import LowRankRNN, load_model, read_results, write_results
from nwb_lrrnn.cli import main
from nwb_lrrnn.io.reading import binned_spikes
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_region, add_series, add_table, add_trials, add_units, new_nwb

PATH = "processing/ecephys/BinnedAlignedSpikes"
EVENTS = np.array([7.0, 1.5, 4.0, 10.0])  # out of order, as a file that was not written by the extension may be


def stored(n_units=3, n_events=4, n_bins=5, dtype=np.uint64):
    """Return counts (unit, event, bin) that tell their place."""
    return np.arange(n_units * n_events * n_bins).reshape(n_units, n_events, n_bins).astype(dtype)


def add_binned(file, data=None, events=EVENTS, path=PATH, width=20.0, first=-40.0, labels=None, indices=None):
    """Add counts around events as version 0.3 of ndx-binned-spikes writes them; None leaves an attribute out."""
    group = file.create_group(path)
    group.attrs.update(neurodata_type="BinnedAlignedSpikes", namespace="ndx-binned-spikes", object_id="abc")
    for name, value in {"bin_width_in_ms": width, "event_to_bin_offset_in_ms": first}.items():
        if value is not None:
            group.attrs[name] = value
    group["data"] = stored() if data is None else data
    if events is not None:
        group["event_timestamps"] = events
    if indices is not None:
        group["condition_indices"] = np.asarray(indices)
    if labels is not None:
        group["condition_labels"] = np.asarray(labels, dtype=object).astype(h5py.string_dtype())
    return group


@pytest.fixture
def binned(make):
    """Return a function that opens a file with nothing but counts around events."""
    return lambda *args, **changes: make(lambda file: add_binned(file, *args, **changes))


def with_units(file, rows=(2, 0, 1), **changes):
    """Add units, whose electrodes have a location, and counts of some of them."""
    electrodes = add_table(
        file, "general/extracellular_ephys/electrodes", "DynamicTable", [5, 6], location=["V1", "V2"]
    )
    units = add_units(file, [[0.1], [0.2], [0.3]], ids=[10, 11, 12], quality=["good", "mua", "good"])
    add_region(units, "electrodes", [0, 1, 1], electrodes)
    add_region(add_binned(file, **changes), "units_region", rows, units)


# --- what is shown and read -------------------------------------------------------------------------------------------


def test_the_call_that_is_shown_reads_the_counts(binned):
    recording = binned()
    assert "BinnedAlignedSpikes  BinnedAlignedSpikes  3 units, 4 events, 5 bins, counts" in repr(recording)
    (content,) = recording.fittable
    assert (content.kind, content.n_units, content.units, content.method) == ("binned_spikes", 3, "counts", "series")
    assert content.call == 'recording.series("BinnedAlignedSpikes")'
    X = eval(content.call, {"recording": recording})
    assert X.dims == ("trial", "time", "unit")
    assert X.name == "BinnedAlignedSpikes"
    np.testing.assert_array_equal(X.values, stored().transpose(1, 2, 0))
    assert X.dtype == np.int32  # signed, however they are stored; 64 bits are more than any count of spikes
    np.testing.assert_allclose(X["time"], [-0.03, -0.01, 0.01, 0.03, 0.05], rtol=1e-12)
    np.testing.assert_array_equal(X["align_time"], EVENTS)
    assert X.coords["unit_kind"] == "unit"
    assert "observed" not in X.coords
    assert X.attrs["bin_size"] == 0.02
    assert {"units": "counts", "nwb_path": "/" + PATH, "object_id": "abc"}.items() <= X.attrs.items()
    assert X.attrs["source"] == recording.uri
    assert recording.series().identical(X)  # the only population
    assert recording.problems == [
        "/" + PATH + ": the events are not in order of time; they are kept in the file's order"
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [(np.uint8, "int16"), (np.int16, "int16"), (np.uint16, "int32"), (np.int64, "int32"), (np.float64, "int32")],
)
def test_counts_are_signed_integers(binned, written, expected):
    X = binned(stored(dtype=written)).series()
    assert X.dtype == expected
    np.testing.assert_array_equal(X.values, stored().transpose(1, 2, 0))


def test_nothing_is_read_before_it_is_used(binned, monkeypatch):
    recording = binned()
    X = recording.series()
    asked = []
    read = binned_spikes.read_dataset
    monkeypatch.setattr(binned_spikes, "read_dataset", lambda *args, **more: asked.append(args) or read(*args, **more))
    part = pickle.loads(pickle.dumps(X[2, 1:3, [0, 2]]))
    assert not asked
    np.testing.assert_array_equal(part.values, stored()[[0, 2], 2, 1:3].T)
    assert X[:0].shape == (0, 5, 3)
    assert len(X[:0].values) == 0
    pickle.loads(pickle.dumps(recording)).series()


def test_blocks_are_read_by_themselves(binned, monkeypatch):
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy._BLOCK_BYTES", 5 * 3 * 4 * 2)
    X = binned().series()
    assert X.chunks[0] == (2, 2)
    np.testing.assert_array_equal(X.values, stored().transpose(1, 2, 0))


def test_conditions_by_label_and_by_number(binned):
    X = binned(indices=[1, 0, 1, 1], labels=["left", "right"]).series(trials="condition == 'right'")
    assert X["condition"].values.tolist() == ["right"] * 3
    assert X["condition_index"].values.tolist() == [1, 1, 1]
    assert X["trial"].values.tolist() == [0, 2, 3]
    np.testing.assert_array_equal(X["align_time"], EVENTS[[0, 2, 3]])
    np.testing.assert_array_equal(X.values, stored()[:, [0, 2, 3]].transpose(1, 2, 0))


def test_conditions_without_labels(binned):
    assert binned(indices=[3, 0, 3, 3]).series()["condition"].values.tolist() == [3, 0, 3, 3]


def test_units_of_the_table(make):
    recording = make(with_units)
    X = recording.series("BinnedAlignedSpikes")
    assert X["unit"].values.tolist() == [12, 10, 11]
    assert X["quality"].values.tolist() == ["good", "good", "mua"]
    assert X["location"].values.tolist() == ["V2", "V1", "V2"]
    part = recording.series("BinnedAlignedSpikes", units=[11, 12])
    np.testing.assert_array_equal(part.values, stored()[[2, 0]].transpose(1, 2, 0))
    np.testing.assert_array_equal(recording.series("BinnedAlignedSpikes", units="quality == 'mua'")["unit"], [11])
    assert recording.spikes(0.1).sizes["unit"] == 3  # the spikes are there as well


def test_a_unit_that_is_named_twice_goes_by_its_number(make):
    X = make(lambda file: with_units(file, rows=(1, 1, 0))).series("BinnedAlignedSpikes")
    assert X["unit"].values.tolist() == [0, 1, 2]
    assert X["id"].values.tolist() == [11, 11, 10]


def test_the_offset_of_earlier_versions_and_none(make):
    def build(file):
        add_binned(file, first=None)
        old = add_binned(file, path="processing/ecephys/Old", first=None)
        old.attrs["milliseconds_from_event_to_first_bin"] = -20.0

    recording = make(build)
    assert recording.series("BinnedAlignedSpikes")["time"].values[0] == pytest.approx(0.01)
    assert recording.series("Old")["time"].values[0] == pytest.approx(-0.01)


def test_invalid_times_are_unobserved(make):
    def build(file):
        add_binned(file)
        add_trials(file, [3.99, 9.0], [4.01, 11.0], path="intervals/invalid_times")

    X = make(build).series()
    assert X["trial"].values.tolist() == [0, 1, 2]
    assert X.attrs["dropped_trials"] == ["3: no bin of it was observed"]
    assert X["observed"].values[2].tolist() == [True, False, False, True, True]


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 0, 5), r"the counts are empty \(shape \(3, 0, 5\), wanted \(unit, event, bin\)\)"),
        ((3, 4), r"the data have 2 dims \(3, 4\), wanted \(unit, event, bin\)"),
        ((3, 4, 5, 1), r"the data have 4 dims \(3, 4, 5, 1\), wanted \(unit, event, bin\)"),
    ],
)
def test_counts_that_cannot_be_read_say_why(binned, shape, expected):
    recording = binned(np.zeros(shape), events=np.zeros(shape[1]))
    assert not recording.fittable
    for text in (recording.reason, repr(recording), recording.problems[0]):
        assert re.search(expected, text)
    with pytest.raises(ValueError, match=expected):
        recording.series("BinnedAlignedSpikes")


def test_one_unit_is_read_but_no_network(binned):
    recording = binned(stored(n_units=1))
    assert recording.reason == f"/{PATH}: a single unit; a network needs several"
    assert recording.series("BinnedAlignedSpikes").shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"events": EVENTS[:3]}, r"event_timestamps: got float64 of shape \(3,\) for data of shape \(3, 4, 5\)"),
        ({"events": None}, "event_timestamps: got none for data"),
        ({"width": None}, "got bin_width_in_ms None, wanted one positive number"),
        ({"width": 0.0}, "got bin_width_in_ms 0.0, wanted one positive number"),
        ({"first": np.nan}, "got event_to_bin_offset_in_ms nan, wanted one number"),
    ],
)
def test_what_does_not_fit_is_one_sentence(binned, changes, expected):
    recording = binned(**changes)
    with pytest.raises(ValueError, match=expected):
        recording.series()
    (problem,) = recording.problems
    assert re.search(expected, problem)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (np.nan, float, "1 values that are no numbers, such as a fill value"),
        (0.5, float, "1 values that are no whole numbers"),
        (-1, int, "1 values below 0"),
        (2**40, int, "1 values beyond any count of spikes"),
    ],
)
def test_values_that_are_no_counts(binned, value, dtype, expected):
    data = stored(dtype=dtype)
    data[1, 2, 3] = value
    recording = binned(data, events=np.sort(EVENTS))
    X = recording.series()
    with pytest.raises(ValueError, match=f"/{PATH}/data: {expected} .*wanted counts of spikes"):
        X.load()
    assert recording.problems == [p for p in recording.problems if f"/{PATH}/data: in events 0 to 3, {expected}" in p]
    assert len(recording.problems) == 1
    assert recording.series(trials=[0, 1, 3]).load().shape == (3, 5, 3)


def test_events_without_a_time_are_dropped(binned):
    recording = binned(events=np.array([1.0, np.nan, 2.0, 3.0]))
    X = recording.series()
    assert X.attrs["dropped_trials"] == ["1: event_timestamps is not finite"]
    np.testing.assert_array_equal(X.values, stored()[:, [0, 2, 3]].transpose(1, 2, 0))
    assert recording.problems == [f"/{PATH}: 1 of 4 events have no finite time; they are dropped"]
    with pytest.raises(ValueError, match=r"no trial is left: dropped 1 \(event_timestamps is not finite\)"):
        recording.series(trials=[1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"indices": [0, 1]}, r"condition_indices: got int64 of shape \(2,\) for 4 events; they are left out"),
        ({"indices": [0, 1, 2, 0], "labels": ["a", "b"]}, "2 labels do not fit the condition_indices"),
    ],
)
def test_conditions_that_do_not_fit_are_left_out(binned, changes, expected):
    recording = binned(**changes)
    with pytest.warns(UserWarning, match=expected):
        X = recording.series()
    assert X.shape == (4, 5, 3)
    assert any("condition_" in problem for problem in recording.problems)


def test_a_region_that_does_not_fit_gives_no_metadata(make):
    recording = make(lambda file: with_units(file, rows=(0, 1)))
    with pytest.warns(UserWarning, match="units_region: its 2 rows do not fit the 3 units of the data"):
        X = recording.series("BinnedAlignedSpikes")
    assert X["unit"].values.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"bin_size": 0.05}, "bin_size: got 0.05, but .* holds counts in bins of 0.02 s; leave bin_size= out"),
        ({"align": "go", "window": (0, 1)}, "align: .* counts around events of its own; leave align, window out"),
        ({"intervals": "trials"}, "intervals: .* counts around events of its own"),
        ({"max_gap": 1.0}, "max_gap: .* counts around events of its own"),
    ],
)
def test_other_bins_than_those_of_the_file_are_refused(binned, asked, expected):
    with pytest.raises(ValueError, match=expected):
        binned().series(**asked)


def test_bins_of_the_file_may_be_named(binned):
    assert binned().series(bin_size=0.02).shape == (4, 5, 3)


def test_counts_around_events_are_no_input(binned):
    recording = binned()
    with pytest.raises(ValueError, match=r"the data have 3 dims \(3, 4, 5\), wanted \(time, unit\)"):
        recording.series("BinnedAlignedSpikes", like=recording.series())


def test_the_tree_says_who_reads_them(binned):
    node = binned().to_datatree()[PATH]
    assert "held in trials; recording.series(" in node.attrs["reason"]


# --- what is done with them -------------------------------------------------------------------------------------------


def planted(path, *, with_table=True):
    """Write counts of 12 events that share an oscillation, beside a trial table of other times."""
    rng = np.random.default_rng(3)
    wave = np.sin(0.5 * np.arange(20) + rng.uniform(0, 6, size=(12, 1)))
    counts = rng.poisson(np.exp(0.5 + 0.5 * wave * np.array([1.0, -1.0, 0.5, 0.8])[:, None, None]))
    with new_nwb(path) as file:
        add_trials(file, np.arange(3.0), np.arange(3.0) + 1)
        group = add_binned(file, counts, events=3.0 * np.arange(12))
        add_series(file, "acquisition/other", np.zeros((100, 3)), kind="ElectricalSeries", rate=100.0)
        if with_table:
            units = add_units(
                file, [[]] * 5, path="processing/ecephys/sorted", ids=[4, 5, 6, 7, 8], location=list("abcde")
            )
            del units["spike_times"]  # only the counts were kept
            add_region(group, "units_region", [4, 3, 2, 1], units)
    return open_nwb(path)


def test_they_are_fitted_and_the_result_names_their_units(tmp_path):
    recording = planted(tmp_path / "a.nwb")
    X = recording.series("BinnedAlignedSpikes")
    model = LowRankRNN(1, n_neurons=10, max_epochs=2, validation_fraction=0.0, random_state=0)
    with pytest.warns(ConvergenceWarning):
        latents = model.fit(X).transform(X)
    assert model.likelihood_ == "poisson"
    np.testing.assert_array_equal(model.unit_ids_, [8, 7, 6, 5])
    np.testing.assert_array_equal(latents["align_time"], X["align_time"])
    write_results(tmp_path / "result.nwb", model, latents=latents, source=recording)
    loadings = read_results(tmp_path / "result.nwb")["units"]
    assert loadings["location"].values.tolist() == ["e", "d", "c", "b"]
    again = load_model(tmp_path / "result.nwb").transform(X)
    np.testing.assert_array_equal(again.values, latents.values)


def test_the_command_fits_them_by_name_in_their_own_trials(tmp_path, capsys):
    planted(tmp_path / "a.nwb", with_table=False)
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "a.nwb")])
    assert "4 units, 12 events, 20 bins, counts" in capsys.readouterr().out
    quick = ["--rank", "1", "--max-epochs", "1", "--set", "n_neurons=5", "--no-compare", "-o", str(tmp_path / "b.nwb")]
    with pytest.raises(SystemExit) as stop:
        main(["fit", str(tmp_path / "a.nwb"), "--series", "BinnedAlignedSpikes", *quick])
    assert stop.value.code == 0
    assert "Data: 12 trials of 20 bins of 0.02 s, 4 units of a.nwb" in capsys.readouterr().out
