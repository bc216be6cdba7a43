"""A conversion that is no number, or that of other columns, is a problem of the file; no value is read with it."""

import h5py
import numpy as np
import pytest

import nwb_lrrnn as lr
from nwb_lrrnn.io.errors import MisreadValuesError
from small_nwb import add_region, add_series, add_table, new_nwb, ramp


def opened(path, build):
    with new_nwb(path) as file:
        build(file)
    return lr.open_nwb(path)


@pytest.mark.parametrize("name", ["conversion", "offset"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1e-6", "'1e-6'"),
        (1e-6 + 0j, r"\(1e-06\+0j\)"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        ([1.0, 2.0], "2 values"),
        (True, "True"),
    ],
)
def test_what_is_no_number_is_a_problem_and_is_refused(tmp_path, name, value, text):
    recording = opened(
        tmp_path / "a.nwb", lambda file: add_series(file, "acquisition/x", ramp(5), rate=2.0, **{name: value})
    )
    said = rf"/acquisition/x: `{name}` is {text}, wanted one finite number; repair the file"
    with pytest.raises(ValueError, match=said):
        recording.series("x")
    assert [problem for problem in recording.problems if f"`{name}`" in problem]
    assert not recording.fittable
    assert "reason" in recording.to_datatree()["acquisition/x"].attrs


@pytest.mark.parametrize("name", ["rate", "starting_time"])
@pytest.mark.parametrize("value", ["10", np.nan, np.inf, 1j])
def test_clocks_that_are_no_numbers(tmp_path, name, value):
    def build(file):
        group = add_series(file, "acquisition/x", ramp(5), rate=2.0)
        if name == "rate":
            group["starting_time"].attrs["rate"] = value
        else:
            del group["starting_time"]
            group["starting_time"] = value
            group["starting_time"].attrs["rate"] = 2.0

    recording = opened(tmp_path / "a.nwb", build)
    with pytest.raises(ValueError, match="acquisition/x: .*starting_time"):
        recording.series("x")
    assert any("/acquisition/x: " in problem and "starting_time" in problem for problem in recording.problems)


def test_a_conversion_of_zero_is_refused(tmp_path):
    recording = opened(
        tmp_path / "a.nwb", lambda file: add_series(file, "acquisition/x", ramp(5), rate=2.0, conversion=0.0)
    )
    with pytest.raises(ValueError, match="`conversion` is 0, which would make all values alike"):
        recording.series("x")


def test_what_is_not_said_is_one_and_zero(tmp_path):
    def build(file):
        add_series(file, "acquisition/x", ramp(5), rate=2.0, conversion=h5py.Empty("f8"))
        add_series(file, "acquisition/y", ramp(5), rate=2.0, conversion=np.array([2.0]), offset=np.float32(1.0))

    recording = opened(tmp_path / "a.nwb", build)
    np.testing.assert_array_equal(recording.series("x"), ramp(5))
    np.testing.assert_array_equal(recording.series("y"), ramp(5) * 2 + 1)
    assert not recording.problems


def test_events_keep_their_times(tmp_path):
    recording = opened(
        tmp_path / "a.nwb",
        lambda file: (
            add_series(file, "acquisition/x", ramp(8), rate=2.0),
            add_series(file, "processing/b/BehavioralEvents/lick", np.ones(2), timestamps=[0.6, 1.9], conversion="x"),
        ),
    )
    X = recording.series("x", bin_size=0.5)
    assert float(recording.events("lick", like=X).sum()) == 2
    assert any("lick: `conversion` is 'x'" in problem for problem in recording.problems)
    assert not recording.to_datatree()["processing/b/BehavioralEvents/lick"].data_vars


@pytest.mark.parametrize(
    ("gains", "text"),
    [
        ([2.0] * 5, "got 5 values for 2 columns"),
        ([2.0], "got 1 values for 2 columns"),
        ([2.0, np.nan], "got nan for column 1"),
        ([0.0, 1.0], "got 0 for column 0"),
        ([b"1", b"2"], "got dtype .*, wanted numbers"),
    ],
)
def test_gains_that_are_not_one_a_channel(tmp_path, gains, text):
    def build(file):
        table = add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [0, 1], x=[1.0, 2.0])
        group = add_series(file, "acquisition/es", ramp(5), "ElectricalSeries", rate=2.0, conversion=1e-6)
        group["channel_conversion"] = gains
        add_region(group, "electrodes", [0, 1], table)

    recording = opened(tmp_path / "a.nwb", build)
    with pytest.raises(MisreadValuesError, match=rf"/acquisition/es/channel_conversion: {text}.*repair the file"):
        recording.series("es")
    assert any("channel_conversion" in problem for problem in recording.problems)
    assert "channel_conversion" in recording.to_datatree()["acquisition/es"].attrs["reason"]


def test_a_resolution_that_is_no_number_is_said_but_changes_no_value(tmp_path):
    recording = opened(
        tmp_path / "a.nwb", lambda file: add_series(file, "acquisition/x", ramp(5), rate=2.0, resolution="fine")
    )
    np.testing.assert_array_equal(recording.series("x"), ramp(5))
    assert any("`resolution` is 'fine'" in problem for problem in recording.problems)
