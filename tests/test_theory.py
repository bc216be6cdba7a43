"""Mean field and four-point functions against published and tabulated values, and every limit that is exact."""

import numpy as np
import pytest

from nwb_lrrnn import dimension_of_activity, four_point, mean_field
from nwb_lrrnn.analysis.theory.ensembles import Gains, Overlaps, PartialSymmetry, RandomModes
from nwb_lrrnn.analysis.theory.modes import overlapping_modes
from nwb_lrrnn.analysis.theory.sigmoids import pair_law
from nwb_lrrnn.analysis.theory.spectra import cosine_transform, spectra

ERF = {  # g: variance of currents, of rates, mean slope, nu, PR of rates, PR of currents
    1.2: (0.287740, 0.201519, 0.829888, 0.991748, 0.001000, 0.000967),
    1.5: (0.838753, 0.384954, 0.656885, 0.970870, 0.007404, 0.006584),
    2.0: (2.064080, 0.553807, 0.485514, 0.942896, 0.023014, 0.018199),
    3.0: (5.637432, 0.710730, 0.318541, 0.913218, 0.049742, 0.034200),
    4.0: (10.68666, 0.785511, 0.237112, 0.899556, 0.067212, 0.042745),
    6.0: (25.17615, 0.858318, 0.157045, 0.887867, 0.086877, 0.050764),
    10.0: (71.64482, 0.915445, 0.093848, 0.880751, 0.103474, 0.056120),
}
TANH = {
    1.5: (0.747686, 0.342093, 0.657907, 0.973892, 0.006239, 0.005611),
    4.0: (10.467473, 0.762360, 0.237640, 0.903564, 0.062068, 0.040274),
    10.0: (71.368092, 0.906091, 0.093909, 0.881894, 0.100703, 0.055259),
}


@pytest.mark.parametrize(
    ("name", "table", "tolerance"), [("erf", ERF, 1e-5), ("tanh", TANH, 1e-4)], ids=["erf", "tanh"]
)
def test_mean_field_and_dimension_have_their_tabulated_values(name, table, tolerance):
    for g, (variance, rate_variance, slope, nu, pr, pr_currents) in table.items():
        single, found = mean_field(g, name), four_point(g, nonlinearity=name)
        got = [single.variance, single.rate_variance, single.mean_slope, single.nu]
        np.testing.assert_allclose(got, [variance, rate_variance, slope, nu], rtol=tolerance)
        np.testing.assert_allclose([found.pr, found.pr_currents], [pr, pr_currents], rtol=1e-3)


def test_large_coupling():
    # phi is a sign there: variance -> 2 (1 - 2 / pi) g², nu -> 1 / (pi - 2), dimensions 12.6 and 6.02 % (Clark 2023)
    for name in ("erf", "tanh"):
        single = mean_field(200.0, name)
        assert single.variance / 200.0**2 == pytest.approx(2 * (1 - 2 / np.pi), rel=1e-4)
        assert single.nu == pytest.approx(1 / (np.pi - 2), abs=1e-4)
    found = four_point(200.0)
    assert found.pr_currents == pytest.approx(0.0602, abs=5e-5)
    assert found.pr == pytest.approx(0.126, abs=5e-4)


def test_transition_to_chaos():
    single = mean_field(1.02, "tanh")
    assert single.variance == pytest.approx(0.02, rel=0.03)  # epsilon sech(epsilon tau / sqrt 3), to order epsilon
    assert 1 - single.nu == pytest.approx(0.02**2 / 3, rel=0.1)
    assert single.half_time == pytest.approx(np.arccosh(2) * np.sqrt(3) / 0.02, rel=0.06)
    ratio = four_point(1.1, RandomModes(2.0)).pr / four_point(1.1).pr
    assert ratio == pytest.approx(1 / (1 + 2.0), rel=0.02)
    quiet = mean_field(0.9)
    assert not quiet.is_chaotic
    assert quiet.variance == 0.0
    assert "no chaos" in str(quiet)
    assert (quiet.rate_autocovariance([0.0, 1.0]) == 0).all()
    with pytest.raises(ValueError, match=r"g: got 0\.9, where there is no chaos"):
        four_point(0.9)
    with pytest.raises(ValueError, match="so near the transition to chaos"):
        four_point(1.005)
    assert np.isnan(dimension_of_activity([0.9, 2.0]).pr.values).tolist() == [True, False]


def test_the_course_obeys_its_equation():
    # two roads to the spectrum: of the currents, and of the rates through the equation of motion
    single, at = mean_field(3.0), spectra(mean_field(3.0))
    w = np.array([0.0, 0.3, 1.0, 3.0])
    currents = cosine_transform(single.autocovariance, w, longest=single.end + 60)
    rates = cosine_transform(single.rate_autocovariance, w, longest=single.end + 60)
    np.testing.assert_allclose((1 + w**2) * currents, 9.0 * rates, rtol=1e-6, atol=1e-6)
    expected = [0.898, 0.713, 0.545, 0.411, 0.230, 0.128, 0.039, 0.012]
    lags = [1, 2, 3, 4, 6, 8, 12, 16]
    np.testing.assert_allclose(single.rate_autocovariance(lags) / single.rate_variance, expected, atol=6e-4)
    np.testing.assert_allclose(at.course(at.rates, lags), single.rate_autocovariance(lags), atol=1e-8)


def test_quadrature_agrees_with_the_closed_form():
    for variance in (1e-3, 1.0, 30.0, 3e4):
        closed, drawn = pair_law("erf", variance), pair_law(lambda x: _erf(x), variance)
        c = variance * np.array([1e-3, 0.3, 0.9, 0.999, 1.0])
        for what in ("covariance", "integral", "slope"):
            np.testing.assert_allclose(getattr(drawn, what)(c), getattr(closed, what)(c), rtol=1e-7)
        assert drawn.mean_slope == pytest.approx(closed.mean_slope, rel=1e-9)


def _erf(x):
    from scipy.special import erf

    return erf(0.5 * np.sqrt(np.pi) * x)


PRS = {  # g: PR of rates at effective ranks 0.1, 0.3, 0.5, 1 and of an orthogonal matrix
    1.5: (0.00072, 0.00181, 0.00259, 0.00384, 0.10118),
    3.0: (0.00568, 0.01387, 0.01949, 0.02801, 0.22201),
    6.0: (0.01083, 0.02601, 0.03614, 0.05104, 0.29160),
}


def test_structure_lowers_dimension_and_equal_singular_values_raise_it():
    table = dimension_of_activity(list(PRS), effective_rank=[0.1, 0.3, 0.5, 1.0])
    np.testing.assert_allclose(table.pr, [row[:4] for row in PRS.values()], atol=6e-6)
    orthogonal = dimension_of_activity(list(PRS), kappa=-1.0)
    np.testing.assert_allclose(orthogonal.pr, [row[4] for row in PRS.values()], atol=6e-6)
    np.testing.assert_allclose(orthogonal.pr_currents[1:], [0.19386, 0.23491], atol=6e-6)
    assert (np.ptp(table.half_time.values, axis=1) == 0).all()  # single neurons do not see it


def test_gains_are_not_undone_by_normalising():
    found = {
        rates: float(dimension_of_activity(4.0, effective_rank=0.5, gains=0.4, rates=rates).pr)
        for rates in ("raw", "readout", "normalised")
    }
    np.testing.assert_allclose(list(found.values()), [0.016908, 0.018253, 0.018767], rtol=1e-4)
    assert found["normalised"] < float(dimension_of_activity(4.0, effective_rank=0.5).pr)


HALF_TIMES = {  # g: C, Psi(tau, 0) of independent connections, of effective rank 0.1, Psi(tau, tau)
    1.5: (7.128, 14.06, 14.27, 23.85),
    3.0: (3.307, 6.956, 7.362, 8.224),
    10.0: (2.179, 5.259, 5.838, 5.605),
}


def test_time_scales():
    for g, (single, leading, structured, cross) in HALF_TIMES.items():
        table = dimension_of_activity(g, effective_rank=[0.1, np.inf])
        got = [table.half_time[1], *table.leading_half_time[::-1], table.cross_half_time[1]]
        np.testing.assert_allclose(got, [single, leading, structured, cross], rtol=4e-4)
    shapes = [four_point(3.0, RandomModes(k)).leading([1, 2, 4, 8, 16]) for k in (0.0, -1.0)]
    expected = [(0.977, 0.919, 0.754, 0.422, 0.091), (0.958, 0.865, 0.647, 0.305, 0.049)]
    np.testing.assert_allclose(shapes, expected, atol=6e-4)


def test_limits_are_exact():
    s1 = (0.3 / (1 + 1j * np.array([0.3, 1.0, 2.0])))[:, None]
    s2 = (0.3 / (1 + 1j * np.array([-0.3, 0.7, -1.0])))[None]
    g = 3.0
    free = RandomModes(0.0).factor(g, s1, s2)
    np.testing.assert_allclose(free, 1 / np.abs(1 - g**2 * s1 * s2) ** 2, rtol=1e-14)
    for rates in ("normalised", "raw", "readout"):
        np.testing.assert_allclose(
            Gains(2.0, 1.0, rates).factor(g, s1, s2), RandomModes(2.0).factor(g, s1, s2), rtol=1e-13
        )
    law = overlapping_modes(g, 0.3, 0.0)
    np.testing.assert_allclose(law.factor(g, s1, s2), RandomModes(1 / 0.3).factor(g, s1, s2), rtol=1e-12)
    many = 1e12  # modes a neuron, each weak
    weak = Overlaps(np.full(2, g / np.sqrt(many)), np.array([1.0, -1.0]) * np.sqrt(0.2), many)
    np.testing.assert_allclose(weak.factor(g, s1, s2), PartialSymmetry(0.2).factor(g, s1, s2), rtol=1e-10)
    np.testing.assert_allclose(weak.drive(g, s1[:, 0])[0], PartialSymmetry(0.2).drive(g, s1[:, 0])[0], rtol=1e-10)
    np.testing.assert_allclose(weak.drive(g, s1[:, 0])[1], PartialSymmetry(0.2).drive(g, s1[:, 0])[1], rtol=1e-4)


@pytest.mark.parametrize(("size", "share"), [(-0.5, 0.6), (0.4, 0.6)])
def test_overlaps_agree_with_random_matrices(size, share):
    # at fixed responses: C(w) = G G†, G = (1/S - J)⁻¹, frequencies of both signs
    rng, n, g = np.random.default_rng(0), 350, 3.0
    law = overlapping_modes(g, share, size, n)
    s = 0.22 / (1 + 1j * np.array([0.3, 1.2]))
    s = np.array([s[0], np.conj(s[1])])
    measured = []
    for _ in range(2):
        x, y, shared = rng.standard_normal((3, n, n)) / np.sqrt(n)
        rho = law.overlaps
        left = np.sqrt(1 - np.abs(rho)) * x + np.sqrt(np.abs(rho)) * shared
        right = np.sqrt(1 - np.abs(rho)) * y + np.sign(rho) * np.sqrt(np.abs(rho)) * shared
        inverse = [np.linalg.inv(np.eye(n) / one - (left * law.strengths) @ right.T) for one in s]
        c = [one @ one.conj().T for one in inverse]
        measured.append(n * np.sum(c[0] * c[1]).real / np.prod([np.trace(one).real for one in c]))
    predicted = law.factor(g, s[:1, None], s[None, 1:])[0, 0]
    assert np.mean(measured) == pytest.approx(predicted, rel=0.08)


def test_drawn_fixed_points():
    # without self-hearing the drawn fixed point is the computed one; with it, to the error that it states
    free = dimension_of_activity(3.0, reciprocity=0.0, n_samples=50, n_repeats=1)
    assert float(free.pr) == pytest.approx(0.049742, rel=1e-3)
    heard = four_point(3.0, PartialSymmetry(0.2), n_samples=50, n_repeats=2)
    assert heard.rate_variance == pytest.approx(0.78944, abs=3e-3)
    assert heard.pr == pytest.approx(0.0484, rel=0.08)
    assert heard.pr_error > 0


def test_mixtures_without_a_theory_are_refused():
    with pytest.raises(ValueError, match="overlap: it is of modes"):
        dimension_of_activity(3.0, overlap=0.4)
    with pytest.raises(ValueError, match="no theory of other mixtures"):
        dimension_of_activity(3.0, gains=0.4, reciprocity=0.2)
    with pytest.raises(ValueError, match="nonlinearity: got a function that is not an odd sigmoid"):
        mean_field(3.0, np.exp)
    with pytest.raises(ValueError, match="g: got 2.0, but the strengths of these modes make 3"):
        four_point(2.0, overlapping_modes(3.0, 0.5, 0.2))
