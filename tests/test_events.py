"""Events, whatever holds them: found, listed, read as indicators, and what trials are aligned to."""

import datetime
import re
import warnings

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.reading.entries import SeriesEntry
from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.pipeline.population import driving_inputs
from small_nwb import add_series, add_table, add_trials, add_units, new_nwb, ramp

TIMES = np.array([0.45, 1.05, 1.95, 1.96, 3.35])
BINS = [4, 10, 19, 33]  # of 0.1 s, in which they lie


def add_events(file, path, kind, times=TIMES, **datasets):
    """Add a group of events as the extension ndx-events writes it."""
    group = file.create_group(path)
    group.attrs.update(neurodata_type=kind, namespace="ndx-events", description="d")
    group["timestamps"] = times
    group["timestamps"].attrs.update(unit="seconds", resolution=1e-5)
    for name, values in datasets.items():
        group[name] = values
    return group


def aligned_at(recording, intervals):
    """Return the times that trials of a table are aligned to by "port"."""
    return recording.spikes(0.1, align="port", intervals=intervals, window=(0, 0.2))["align_time"].values.tolist()


def text(*words):
    return np.array(words, dtype=h5py.string_dtype())


@pytest.fixture
def make(tmp_path):
    """Return a function that opens a file with units, three trials and what `build` adds."""

    def opened(build, trials=True):
        with new_nwb(tmp_path / "a.nwb") as file:
            add_units(file, [np.arange(0.0, 4.0, 0.1), np.arange(0.05, 4.0, 0.2)])
            if trials:
                add_trials(file, [0.0, 1.0, 3.0], [1.0, 3.0, 3.3])
            build(file)
        return open_nwb(tmp_path / "a.nwb")

    return opened


def bins(indicator):
    """Return the numbers of the bins that hold an event, by input."""
    return {str(name): np.flatnonzero(indicator.sel(input=name)).tolist() for name in indicator["input"].values}


def labelled(file, path="acquisition/port", kind="LabeledEvents", codes=(0, 1, 0, 1, 1), labels=("right", "left")):
    group = add_events(file, path, kind, data=np.array(codes, np.uint8))
    group["data"].attrs["labels"] = text(*labels)


def numbered(file):
    keys = np.array([3, 4, 3, 4, 4], np.uint32)
    add_events(file, "acquisition/port", "LabeledEvents", label_keys=keys, labels=text("", "", "", "right", "left"))


def annotated(file):
    kinds = {"label": ["right", "left"], "event_times": [TIMES[[0, 2]], TIMES[[1, 3, 4]]]}
    add_table(file, "processing/behavior/port", "AnnotatedEventsTable", [3, 4], **kinds)


def lists(file):
    add_trials(file, [0, 1, 3], [1, 3, 3.3], "intervals/runs", lick_times=[TIMES[:1], TIMES[1:4], TIMES[4:]])


ONE = {
    "events of ndx-events": lambda file: add_events(file, "acquisition/lick", "Events"),
    "a table of events": lambda file: add_table(file, "events/lick", "EventsTable", range(5), timestamp=TIMES),
    "a table of an extension": lambda file: add_table(file, "acquisition/lick", "MyTable", range(5), timestamp=TIMES),
    "a momentary series": lambda file: add_series(
        file, "acquisition/lick", ramp(5, 1)[:, 0], timestamps=TIMES, continuity="instantaneous"
    ),
    "ones, named so": lambda file: add_series(file, "acquisition/lick", np.ones(5), timestamps=TIMES),
    "amounts at odd times": lambda file: add_series(file, "acquisition/lick", ramp(5, 1)[:, 0], timestamps=TIMES),
}


@pytest.mark.parametrize("build", ONE.values(), ids=ONE)
def test_one_kind_of_events(make, build):
    recording = make(build)
    content = next(content for content in recording.contents if content.name == "lick")
    assert (content.kind, content.call, content.reason) == ("events", 'recording.events("lick", like=X)', None)
    assert "5 events" in repr(recording)
    assert recording.problems == []
    X = recording.spikes(0.1, window=(0, 4))
    assert bins(recording.events("lick", like=X)) == {"lick": BINS}
    if isinstance(content.entry, SeriesEntry):
        for how in ({"like": X}, {"bin_size": 0.1}, {}):
            with pytest.raises(ValueError, match=r"it holds events, not samples; recording.events\('lick', like=X\)"):
                recording.series("lick", **how)


def test_one_value_at_even_times_is_events_too(make):
    recording = make(lambda file: add_series(file, "acquisition/rewards", np.ones(4), timestamps=np.arange(4.0)))
    assert bins(recording.events("rewards", like=recording.spikes(0.1, window=(0, 4)))) == {"rewards": [0, 10, 20, 30]}


@pytest.mark.parametrize("build", [labelled, numbered, annotated], ids=["labels", "keys", "table"])
def test_one_indicator_a_label(make, build):
    recording = make(build)
    X = recording.spikes(0.1, window=(0, 4))
    both = recording.events("port", like=X)
    assert bins(both) == {"port_left": [10, 19, 33], "port_right": [4, 19]}
    assert bins(recording.events("port/left", like=X)) == {"left": [10, 19, 33]}
    assert recording.problems == []
    every = recording.events("port", like=recording.spikes(0.1, intervals="trials"))
    assert every.dims == ("trial", "time", "input")
    np.testing.assert_array_equal(every[1].values, both[10:30].values)


def test_events_that_pynwb_writes(tmp_path):
    from pynwb import NWBHDF5IO, NWBFile

    event = pytest.importorskip("pynwb.event")  # of pynwb 4.2
    nwb = NWBFile("d", "i", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
    table = event.EventsTable(name="rewards", description="d")
    for time in TIMES:
        table.add_event(timestamp=time, duration=np.nan, annotation="x")
    nwb.add_events_table(table)
    for time in np.arange(0.0, 4.0, 0.1):
        nwb.add_unit(spike_times=[time, time + 0.05])
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwb)
    recording = open_nwb(tmp_path / "a.nwb")
    assert bins(recording.events("rewards", like=recording.spikes(0.1, window=(0, 4)))) == {"rewards": BINS}
    assert recording.to_datatree()["events/rewards"]["timestamp"].values.tolist() == TIMES.tolist()


def test_lists_of_times_in_a_table_of_intervals(make):
    recording = make(lists)
    X = recording.spikes(0.1, window=(0, 4))
    assert {c.name: c.call for c in recording.contents}["lick_times"] == 'recording.events("lick_times", like=X)'
    assert bins(recording.events("lick_times", like=X)) == {"lick_times": BINS}
    first = recording.spikes(0.1, align="lick_times", intervals="runs", window=(-0.2, 0.2))
    assert first["align_time"].values.tolist() == [0.45, 1.05]  # that of the last run lies after its end
    assert first.attrs["dropped_trials"] == ["2: no event of lick_times inside"]


def test_a_trial_of_each_event(make):
    recording = make(labelled)
    X = recording.spikes(0.1, align="port", window=(-0.2, 0.2))
    assert X.sizes == {"trial": 5, "time": 4, "unit": 2}
    assert X["align_time"].values.tolist() == TIMES.tolist()
    assert X["label"].values.tolist() == ["right", "left", "right", "left", "left"]
    one = recording.spikes(0.1, align="port/left", window=(-0.2, 0.2))
    np.testing.assert_array_equal(one.values, X.values[[1, 3, 4]])
    by_time = recording.spikes(0.1, window=(TIMES[1] - 0.2, TIMES[1] + 0.2))
    np.testing.assert_array_equal(X[1].values, by_time.values)
    with pytest.raises(ValueError, match=r"makes a trial of each of 5 events, which last no time; pass window="):
        recording.spikes(0.1, align="port")


def test_the_first_event_inside_each_trial(make):
    recording = make(labelled)
    for how in ({"intervals": "trials"}, {"trials": "trial < 2"}):
        X = recording.spikes(0.1, align="port", window=(-0.2, 0.2), **how)
        assert X["align_time"].values.tolist() == [0.45, 1.05]
        assert X["trial"].values.tolist() == [0, 1]
    assert recording.spikes(0.1, align="port/right", intervals="trials", window=(0, 0.2))["align_time"][1] == 1.95
    whole = recording.spikes(0.1, align="port", intervals="trials")
    assert whole["time"].min() == pytest.approx(-0.45)


def test_a_column_comes_before_events_of_its_name(make):
    def build(file):
        add_trials(file, [0.0, 1.0], [1.0, 2.0], "intervals/other", port=[0.5, 1.5])
        labelled(file)

    recording = make(build)
    assert recording.spikes(0.1, align="port", intervals="other", window=(0, 0.2))["align_time"].values.tolist() == [
        0.5,
        1.5,
    ]
    assert recording.spikes(0.1, align="port", intervals="trials", window=(0, 0.2))["align_time"].values.tolist() == [
        0.45,
        1.05,
    ]


def test_what_is_sampled_stays_a_series(make):
    def build(file):
        add_series(file, "acquisition/lick", np.sin(np.arange(40.0)), rate=10.0, continuity="instantaneous")
        add_series(file, "acquisition/reward", np.sin(np.arange(40.0)), timestamps=np.arange(40.0) / 10)
        add_series(file, "acquisition/speed", np.sin(np.arange(5.0)), timestamps=TIMES)
        add_series(file, "acquisition/event", ramp(5), timestamps=TIMES, continuity="instantaneous")
        add_series(file, "acquisition/lfp", ramp(5), "ElectricalSeries", timestamps=TIMES, continuity="instantaneous")

    recording = make(build)
    kinds = {content.name: content.kind for content in recording.contents}
    assert {name: kinds[name] for name in ("lick", "reward", "speed", "event", "lfp")} == {
        "lick": "input", "reward": "input", "speed": "input", "event": "series", "lfp": "channel"
    }  # fmt: skip
    X = recording.spikes(0.1, window=(0, 4))
    assert recording.series("lick", like=X).notnull().all()


def test_the_order_of_events_does_not_matter(make):
    shuffled = np.array([3, 0, 4, 1, 2])
    straight = make(labelled)
    X = straight.spikes(0.1, window=(0, 4))
    before = straight.events("port", like=X).values

    def build(file):
        labelled(file, codes=np.array([0, 1, 0, 1, 1])[shuffled])
        file["acquisition/port/timestamps"][...] = TIMES[shuffled]

    after = make(build)
    np.testing.assert_array_equal(after.events("port", like=X).values, before)
    assert after.spikes(0.1, align="port", intervals="trials", window=(0, 0.2))["align_time"].values.tolist() == [
        0.45,
        1.05,
    ]


def nan_times(file):
    add_events(file, "acquisition/lick", "Events", np.array([0.45, np.nan, np.inf]))


def nothing(file):
    add_events(file, "acquisition/lick", "Events", np.zeros(0))


def words(file):
    add_events(file, "acquisition/lick", "Events", text("a"))


def relative(file):
    add_trials(file, [10.0, 20.0], [12.0, 22.0], "intervals/x", lick_times=[np.array([0.1]), np.array([0.2])])


@pytest.mark.parametrize(
    ("build", "said", "name"),
    [
        (nan_times, r"/acquisition/lick: 2 of 3 events have no finite time; they are left out", None),
        (nothing, r"/acquisition/lick: there is no event in it", None),
        (words, r"got times of dtype object", None),
        (lambda file: labelled(file, labels=("right",)), r"/acquisition/port: the codes 1 have no label", "port"),
        (lambda file: add_events(file, "acquisition/port", "LabeledEvents"), r"got no codes for 5 events", "port"),
        (
            lambda file: add_table(file, "events/lick", "EventsTable", [], timestamp=np.zeros(0)),
            r"the table has no rows",
            None,
        ),
        (relative, r"2 of 2 times lie before the start of their own row; they seem to count from it", "lick_times"),
    ],
)
def test_what_is_wrong_is_said(make, build, said, name):
    recording = make(build)
    assert [problem for problem in recording.problems if not re.search(said, problem)] == []
    assert len(recording.problems) == 1
    if name is not None:
        with pytest.warns(UserWarning, match=said):
            recording.events(name, like=recording.spikes(0.1, window=(0, 4)))


def test_events_drive_a_fit_on_the_command_line(make):
    recording = make(lambda file: labelled(file) or add_series(file, "acquisition/speed", ramp(40, 1)[:, 0], rate=10.0))
    X = recording.spikes(0.1, intervals="trials")
    inputs = driving_inputs(recording, ["port", "start_time", "speed"], X)
    names = ["port.port_left", "port.port_right", "start_time.start_time", "speed.speed"]
    assert inputs["input"].values.tolist() == names
    np.testing.assert_array_equal(inputs[..., :2], recording.events("port", like=X))


def test_unknown_names_say_what_there_is(make):
    recording = make(labelled, trials=False)
    with pytest.raises(ValueError, match=r"align: got 'prot', wanted the name of events: /acquisition/port"):
        recording.spikes(0.1, align="prot", window=(0, 1))
    with pytest.raises(
        ValueError, match=r"wanted a column of an interval table or a series of events: /acquisition/port"
    ):
        recording.events("port/up", like=recording.spikes(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recording.spikes(0.1, align="port", window=(0, 0.3)).sizes["trial"] == 5
