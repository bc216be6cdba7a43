"""Are there latents at all? Known answers on latents that are made up, nulls, and what must not matter."""

import numpy as np
import pytest
from scipy.signal import lfilter

from nwb_lrrnn import DisRNN, judge_groups, select_groups
from nwb_lrrnn.analysis.independence import dependence
from nwb_lrrnn.analysis.independence.presence import Presence, presence
from nwb_lrrnn.groups.evidence import without_latents
from nwb_lrrnn.groups.held_out import hold_out

TRIALS, BINS, UNITS = 24, 40, 10
TRAINED = np.broadcast_to(np.arange(TRIALS)[:, None] < 14, (TRIALS, BINS))
QUICK = {"scaling": "unit", "noise": "readout", "n_bootstraps": 0, "random_state": 0}


def ar(seed, shape, pole=0.9):
    """Return AR(1) processes along bins."""
    return np.asarray(lfilter([1.0], [1.0, -pole], np.random.default_rng(seed).standard_normal(shape), axis=1))


def delayed(z):
    """Return the latents of the bin before, what would be known of a bin from bins before it."""
    return np.concatenate([np.zeros_like(z[:, :1]), z[:, :-1]], axis=1)


def shown(z, seed=1, sd=1.0):
    """Return units (trial, time, unit) that mix latents, with noise of their own."""
    rng = np.random.default_rng(seed)
    return z @ rng.standard_normal((z.shape[2], UNITS)) + sd * rng.standard_normal((*z.shape[:2], UNITS))


def of(values, latents, **options):
    return presence(values, latents, TRAINED, ~TRAINED, **options)


@pytest.fixture(scope="module")
def latents():
    """Return two latents that foretell, and a third that does not."""
    z = ar(0, (TRIALS, BINS, 3))
    z[..., 2] = np.random.default_rng(2).standard_normal((TRIALS, BINS))
    return z


def test_latents_that_foretell_are_counted(latents):
    units = shown(latents)
    assert of(units, delayed(latents[..., :2])).number(0.01) == 2
    found = of(units, delayed(latents))  # the third is shown by all units, but no bin before tells of it
    assert found.number(0.01) == 2
    assert found.p_values[2] > 0.05
    assert found.p_value < 1e-4


def test_units_alone_and_noise_have_none(latents):
    apart = ar(3, (TRIALS, BINS, UNITS))  # smooth, each by itself: its own past tells all
    assert of(apart, delayed(apart[..., :2])).number(0.01) == 0
    noise = np.random.default_rng(4).standard_normal((TRIALS, BINS, UNITS))
    assert of(noise, delayed(noise[..., :2] + noise[..., 2:4])).number(0.01) == 0
    order = np.random.default_rng(5).permutation(TRIALS * BINS)
    mixed = shown(latents).reshape(-1, UNITS)[order].reshape(TRIALS, BINS, UNITS)
    assert of(mixed, delayed(mixed[..., :2])).number(0.01) == 0


def test_neither_order_nor_scale_nor_basis_matters(latents):
    units, z = shown(latents), delayed(latents[..., :2])
    before = of(units, z)
    order = np.random.default_rng(6).permutation(UNITS)
    turned = z @ np.array([[3.0, 1.0], [-1.0, 1e-3]]) + 7.0
    for changed in (of(units[..., order], z), of(units * np.arange(1, UNITS + 1) - 5.0, z), of(units, turned)):
        np.testing.assert_allclose(changed.whole, before.whole, atol=1e-6)
        assert changed.number(0.01) == 2


def test_constant_units_and_latents_say_nothing(latents):
    units, z = shown(latents), delayed(latents[..., :2])
    still = np.concatenate([units, np.full((TRIALS, BINS, 2), 3.0)], axis=2)
    np.testing.assert_allclose(of(still, z).whole, of(units, z).whole)
    one = of(units, np.stack([z[..., 0], 2.0 * z[..., 0], np.ones((TRIALS, BINS))], axis=2))
    assert (one.number(0.01), one.rank, len(one.gains)) == (1, 3, 1)
    assert of(units, np.zeros((TRIALS, BINS, 2))).number(0.01) == 0
    assert of(np.ones((TRIALS, BINS, 2)), z).number(0.01) == 0


def test_what_inputs_tell_is_not_of_latents(latents):
    u = ar(7, (TRIALS, BINS, 1))
    units = shown(u)
    assert of(units, delayed(u)).number(0.01) == 1
    assert of(units, delayed(u), inputs=u).number(0.01) == 0


def test_too_few_bins():
    few = np.zeros((1, 60), dtype=bool)
    few[0, :50] = True
    with pytest.raises(ValueError, match="X: got 49 bins to learn from and 9 to test, wanted at least 60 and 20"):
        presence(np.zeros((1, 60, 2)), np.zeros((1, 60, 1)), few, ~few)


def test_what_the_time_in_the_trial_tells_is_not_of_latents():
    course = 3.0 * np.sin(np.arange(BINS) / 5)[None, :, None] * np.ones((TRIALS, 1, 1))
    units = shown(course)
    part = hold_out(units, None, None, 0.4, 0)
    assert presence(units, delayed(course), part.trained, part.tested).number(0.01) == 1
    assert part.presence(units, delayed(course)).number(0.01) == 0


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ([-0.1, -0.2, 0.0, -0.1], "no latents to group"),
        ([0.2, 0.4, 0.1, 0.0], "undecided"),  # likely, not certain
        ([0.4, 0.5, 0.4, 0.5], None),
    ],
)
def test_words_of_missing_latents(gains, word):
    told = without_latents(Presence(np.array(gains), np.array([gains, gains]), 2), 0.01)
    assert (None if told is None else told[0]) == word
    assert told is None or told[1].startswith(f"{word}: ")


# --- a transient does not speak for all other bins ------------------------------------------------------------------


def test_the_first_bin_of_trials_does_not_turn_the_test():
    z = np.random.default_rng(8).standard_normal((40, 25, 2))
    z[:, 0] = 10.0 * z[:, :1, 0]  # there, and there alone, the latents are one
    assert dependence(z, None, (1, 1), n_surrogates=60, random_state=0).p_value < 1e-3
    part = hold_out(np.zeros((40, 25, 3)), None, None, 0.5, 0)
    found = part.test(z, (1, 1), n_surrogates=60, random_state=0)
    assert found.kind == "permutation"
    assert found.p_value > 0.05
    assert min(part.autonomy(z, np.eye(2), (1, 1)).p_values) > 0.01


def test_the_course_of_trials_is_no_dependence_in_long_ones():
    z = ar(9, (12, 150, 2), 0.5) + 3.0 * np.exp(-np.arange(150) / 5)[:, None]
    found = dependence(z, None, (1, 1), n_surrogates=60, random_state=0)
    assert found.kind == "shift"
    assert found.p_value > 0.05


def test_a_transient_of_large_variance_does_not_speak_for_all():
    rng = np.random.default_rng(10)
    z = ar(11, (40, 25, 2), 0.5)
    z[..., 1] += 0.5 * z[..., 0]
    assert dependence(z, None, (1, 1), n_surrogates=60, leak=False, random_state=0).p_value < 1e-6
    z[:, 0] = 100.0 * rng.standard_normal((40, 2))  # independent: it hides what all other bins say
    assert dependence(z, None, (1, 1), n_surrogates=60, leak=False, random_state=0).p_value < 1e-3


# --- with a fit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_noise_has_no_latents_to_group(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((TRIALS, BINS, UNITS)) if kind == "gaussian" else rng.poisson(0.3, (TRIALS, BINS, UNITS))
    judged = judge_groups(DisRNN(2, n_groups=2, **QUICK), X, n_surrogates=40)
    found = select_groups(DisRNN(2, **QUICK), X, n_surrogates=40)
    assert judged.word == found.word == "no latents to group"
    assert judged.factorisable is found.factorisable is None
    assert judged.test is None
    assert (found.group_ranks, len(found.table)) == ((2,), 0)


def test_seed_posterior_order_and_scale_of_units_change_no_word():
    z = np.concatenate([ar(12, (30, BINS, 1), 0.9), ar(13, (30, BINS, 1), -0.8)], axis=2)
    X = shown(z, sd=0.3)
    words = {
        judge_groups(DisRNN(2, n_groups=2, **QUICK | changed), values, n_surrogates=40).word
        for changed, values in (
            ({}, X),
            ({"random_state": 1}, X),
            ({"posterior": "delayed"}, X),
            ({}, X[..., ::-1]),
            ({}, X * np.arange(1, UNITS + 1)),
        )
    }
    assert words == {"factorisable"}
