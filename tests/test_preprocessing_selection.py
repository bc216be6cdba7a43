"""`SelectUnits` and `split_trials`: who is kept, with everything that belongs to them."""

import numpy as np
import pandas as pd
import pytest

import nwb_lrrnn as lr
from small_preprocessing import counted, trials


@pytest.fixture
def X(rng):
    X = trials(rng)
    X.values[...] = [0.1, 0.5, 1.0, 2.0]  # in bins of 0.05 s: 2, 10, 20 and 40 per second
    return X.assign_coords(quality=("unit", ["good", "mua", "good", "good"]))


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (lr.SelectUnits(), [100, 101, 102, 103]),
        (lr.SelectUnits("quality == 'good'"), [100, 102, 103]),
        (lr.SelectUnits("quality == 'good' and rate > 5"), [102, 103]),
        (lr.SelectUnits(min_rate=9.9), [101, 102, 103]),
        (lr.SelectUnits(max_rate=20.5, min_rate=5), [101, 102]),
        (lr.SelectUnits("unit in [103, 100]", min_rate=5), [103]),
        (lr.SelectUnits("area.str.startswith('P')"), [101, 103]),
    ],
    ids=repr,
)
def test_units_are_chosen_by_any_column_and_by_rate(step, kept, X):
    Y = step.fit(X).transform(X)
    assert step.selected_.tolist() == Y["unit"].values.tolist() == kept
    assert Y.drop_attrs().identical(X.sel(unit=kept).drop_attrs())
    assert X.attrs | {"preprocessing": [repr(step)]} == Y.attrs or len(Y.attrs["preprocessing"]) == 1


def test_the_choice_is_made_on_training_data(X):
    step = lr.SelectUnits(min_rate=15).fit(X)
    assert step.transform(0 * X)["unit"].values.tolist() == [102, 103]


def test_rates_skip_what_is_unobserved_and_count_per_bin_without_bin_size(X, rng):
    hidden = X.copy(deep=True).assign_coords(observed=("time", np.arange(40) < 20))
    hidden.values[:, 20:] = 1000.0
    np.testing.assert_allclose(lr.SelectUnits(min_rate=0).fit(hidden).rates_, [2, 10, 20, 40], rtol=1e-12)
    np.testing.assert_allclose(lr.SelectUnits("rate < 1").fit(X.values).rates_, [0.1, 0.5, 1.0, 2.0], rtol=1e-12)
    array = X.values.astype(np.float32)
    assert lr.SelectUnits("rate < 0.8").fit_transform(array).dtype == np.float32
    counts = (X * 10).astype(np.uint8)
    assert lr.SelectUnits(min_rate=0).fit_transform(counts).dtype == np.uint8


def test_data_are_read_once_for_rates_and_never_for_columns(X):
    lazy, reads = counted(X, {"trial": 2, "time": 15})
    step = lr.SelectUnits("quality == 'good'").fit(lazy)
    assert step.rates_ is None
    assert reads == []
    step = lr.SelectUnits("rate > 5").fit(lazy)
    assert len(reads) == len(set(reads)) == 9
    reads.clear()
    assert step.transform(lazy).chunks is not None
    assert reads == []


def test_frames_lists_and_names(X):
    frame = pd.DataFrame(X.values[0], columns=list("abcd"))
    step = lr.SelectUnits("unit != 'b'").fit(frame)
    assert step.transform(frame).columns.tolist() == ["a", "c", "d"]
    assert step.get_feature_names_out().tolist() == ["a", "c", "d"]
    assert [y.shape for y in lr.SelectUnits("unit > 1").fit_transform([X.values[0], X.values[1, :7]])] == [
        (40, 2),
        (7, 2),
    ]
    assert lr.SelectUnits("unit > 1").fit(X.values).get_feature_names_out().tolist() == ["x2", "x3"]
    assert lr.SelectUnits("unit > 0").fit_transform([[1, 2], [3, 4]]).tolist() == [[2], [4]]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            lr.SelectUnits("qualty == 'good'"),
            r"query: \"qualty == 'good'\" fails .* the columns area, quality, rate, unit; did you mean 'quality'\?",
        ),
        (lr.SelectUnits("quality =="), "query: 'quality ==' fails .*wanted a pandas query over the columns area"),
        (lr.SelectUnits(3), "query: got 3, wanted text"),
        (lr.SelectUnits(min_rate=-1), "min_rate: got -1, wanted a finite number >= 0"),
        (lr.SelectUnits(max_rate="a"), "max_rate: got 'a', wanted a finite number >= 0"),
        (lr.SelectUnits(min_rate=100), r"SelectUnits\(min_rate=100\) leaves none of 4 units, .* rates go from 2 to 40"),
        (lr.SelectUnits("area == 'V1'"), r"leaves none of 4 units, wanted at least one; widen the selection$"),
    ],
)
def test_wrong_questions_are_refused(step, message, X):
    with pytest.raises(ValueError, match=message):
        step.fit(X)


def test_trials_are_split_whole_with_their_coordinates(X):
    train, test = lr.split_trials(X, 0.4, random_state=3)
    assert (train.sizes["trial"], test.sizes["trial"]) == (3, 2)
    assert sorted([*train["trial"].values, *test["trial"].values]) == X["trial"].values.tolist()
    for part in (train, test):
        assert part.identical(X.sel(trial=part["trial"]))
        assert (np.diff(part["trial"]) > 0).all()
    again = lr.split_trials(X, 0.4, random_state=3)
    assert again[0].identical(train)
    several = {tuple(lr.split_trials(X, 0.4, random_state=seed)[1]["trial"].values) for seed in range(10)}
    assert len(several) > 1


def test_every_kind_with_trials_is_split_alike(X):
    ids = X["trial"].values
    train, _ = lr.split_trials(X, random_state=1)
    index = np.searchsorted(ids, train["trial"].values)
    np.testing.assert_array_equal(lr.split_trials(X.values, random_state=1)[0], X.values[index])
    for one, k in zip(lr.split_trials(list(X), random_state=1)[0], index, strict=True):
        assert one.identical(X[k])
    lazy, reads = counted(X, {"trial": 1})
    assert lr.split_trials(lazy, random_state=1)[0].chunks is not None
    assert reads == []


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together(rng, seed):
    X = trials(rng, shape=(12, 4, 2)).assign_coords(block=("trial", list("aabbbcddddee")))
    train, test = lr.split_trials(X, 0.4, groups="block", random_state=seed)
    assert not set(train["block"].values) & set(test["block"].values)
    assert len(set(test["block"].values)) == 2
    by_array = lr.split_trials(X.values, 0.4, groups=X["block"].values, random_state=seed)
    np.testing.assert_array_equal(by_array[1], test.values)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda X: X[0], {}, ValueError, r"got dims \('time', 'unit'\), wanted .*chop\(X, duration\) makes trials"),
        (lambda X: X.values[0], {}, ValueError, r"got shape \(40, 4\), wanted \(trial, time, unit\) or a list"),
        (lambda X: X.to_dataset(), {}, TypeError, "got a Dataset of"),
        (lambda X: X[:1], {}, ValueError, "X: got 1 trial, wanted at least 2 trials"),
        (lambda X: X, {"groups": np.zeros(5)}, ValueError, "X: got 1 group, wanted at least 2 groups"),
        (lambda X: X, {"groups": np.zeros(4)}, ValueError, r"groups: got shape \(4,\), wanted \(5,\)"),
        (lambda X: X, {"groups": "blok"}, ValueError, "groups: got 'blok', wanted a coordinate along trials: 'trial'"),
        (lambda X: X.values, {"groups": "block"}, ValueError, "wanted a coordinate along trials: none: X has no such"),
        (lambda X: X, {"test_fraction": 1.0}, ValueError, r"test_fraction: got 1.0, wanted a fraction in \(0, 1\)"),
    ],
)
def test_what_cannot_be_split_is_refused(change, options, error, message, X):
    with pytest.raises(error, match=message):
        lr.split_trials(change(X), **options)
