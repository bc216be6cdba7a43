"""The paper's objective, how it is minimised, and the MLP encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nwb_lrrnn.models.dis.network import encode
from nwb_lrrnn.models.dis.paper import mlp, training
from nwb_lrrnn.models.dis.paper import objective as paper
from nwb_lrrnn.models.dis.paper.objective import Form, Settings
from nwb_lrrnn.models.kernels import paper_objective as kernels

LOG_SD = -0.7
N_TOTAL = 50
VARIANTS = [
    Settings(),
    Settings(leave_one_out=True),
    Settings(block_penalty=3.0),
    Settings(encoder="mlp", n_hidden=5),
    Settings(penalty=0.0),
]


def problem(settings=VARIANTS[0], group_ranks=(2, 1), n=12, units=5, nets=2, seed=0):
    rng = np.random.default_rng(seed)
    form = Form(units, units, group_ranks, settings.n_hidden if settings.encoder == "mlp" else 0)
    flat = paper.initial(form, [np.random.default_rng(k) for k in range(nets)])
    u, y = torch.tensor(rng.normal(size=(1, n, units))), torch.tensor(rng.normal(size=(1, n, units)))
    return form, flat, u, y, torch.tensor(rng.normal(size=(nets, n, form.rank)))


def naive_terms(parts, settings, group_ranks, u, y, noise):
    """Return the terms of one network, pair by pair and kernel by kernel."""
    s, n = np.exp(LOG_SD), len(u)
    if "hidden_weights" in parts:
        mean = encode(parts, u)
    else:
        mean = np.array([parts["encoder_weights"] @ row + parts["encoder_bias"] for row in u])
    z = mean + s * noise
    data = prior = correlation = 0.0
    edges = np.cumsum([0, *group_ranks])
    groups = [range(edges[0], edges[-1])] + [range(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    for m in range(n):
        for i in range(y.shape[1]):
            sd = np.exp(parts["log_sd"][i])
            residual = y[m, i] - parts["loadings"][i] @ z[m] - parts["offset"][i]
            data += (-0.5 * np.log(2 * np.pi * sd**2) - 0.5 * (residual / sd) ** 2) / n
        for k in range(z.shape[1]):
            prior += 0.5 * (mean[m, k] ** 2 + s**2 - 1 - np.log(s**2)) / n
        logs = []
        for group in groups:
            density = 0.0
            for b in range(n):
                weight = (0.0 if settings.leave_one_out else 1.0) if b == m else (N_TOTAL - 1) / (n - 1)
                kernel = 1.0
                for k in group:
                    kernel *= np.exp(-0.5 * ((z[m, k] - mean[b, k]) / s) ** 2) / np.sqrt(2 * np.pi * s**2)
                density += weight * kernel
            logs.append(np.log(density / (N_TOTAL - settings.leave_one_out)))
        correlation += (logs[0] - sum(logs[1:])) / n
    correlation *= settings.penalty != 0
    block = 0.0
    if settings.block_penalty:
        of = np.repeat(np.arange(len(group_ranks)), group_ranks)
        full = parts["encoder_weights"] @ parts["loadings"]
        block = np.mean([full[i, j] ** 2 * (of[i] != of[j]) for i in range(len(of)) for j in range(len(of))])
    loss = -data + prior + settings.penalty * correlation + settings.block_penalty * block
    return np.array([loss, data, prior, correlation, block])


def by_kernel(form, settings, flat, u, y, noise):
    """Return terms and gradient of one network by the kernel."""
    grad, terms = np.empty(len(flat)), np.empty(kernels.N_TERMS)
    sizes = kernels.Sizes(form.n_features, form.n_units, form.rank, form.n_hidden)
    own = float(not settings.leave_one_out)
    weights = kernels.Weights(np.exp(LOG_SD), settings.penalty, settings.block_penalty, own, float(N_TOTAL))
    kernels.loss_and_gradient(flat, sizes, weights, form.edges, u, y, noise, grad, terms)
    return terms, grad


@pytest.mark.parametrize("settings", VARIANTS)
def test_every_term_equals_a_naive_loop(settings):
    form, flat, u, y, noise = problem(settings)
    values = paper.terms(flat, form, settings, LOG_SD, N_TOTAL, u, y, noise).numpy()
    for s in range(2):
        parts = {name: part[s].numpy() for name, part in form.layout.unpack(flat).items()}
        expected = naive_terms(parts, settings, form.group_ranks, u[0].numpy(), y[0].numpy(), noise[s].numpy())
        np.testing.assert_allclose(values[s], expected, rtol=1e-12, atol=1e-12)  # sums in another order


@pytest.mark.parametrize("group_ranks", [(2, 1), (1, 1, 1), (3,)])
@pytest.mark.parametrize("settings", VARIANTS)
def test_hand_written_gradient_equals_autograd(settings, group_ranks):
    form, flat, u, y, noise = problem(settings, group_ranks)
    flat.requires_grad_()
    values = paper.terms(flat, form, settings, LOG_SD, N_TOTAL, u, y, noise)
    (expected,) = torch.autograd.grad(values[:, 0].sum(), flat)
    for s in range(2):
        terms, grad = by_kernel(form, settings, flat[s].detach().numpy(), u[0].numpy(), y[0].numpy(), noise[s].numpy())
        np.testing.assert_allclose(terms, values[s].detach(), rtol=1e-9, atol=1e-10)  # the kernel's exp is a polynomial
        np.testing.assert_allclose(grad, expected[s], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("settings", VARIANTS)
def test_hand_written_gradient_equals_finite_differences(settings):
    form, flat, u, y, noise = problem(settings)
    start, data = flat[0].numpy(), (u[0].numpy(), y[0].numpy(), noise[0].numpy())
    _, grad = by_kernel(form, settings, start, *data)
    step = 1e-5
    for at in np.random.default_rng(0).choice(len(start), 12, replace=False):
        moved = step * (np.arange(len(start)) == at)
        above, below = (by_kernel(form, settings, start + sign * moved, *data)[0][0] for sign in (1, -1))
        assert grad[at] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-6)  # errors of order step^2


def test_one_group_has_no_partial_correlation():
    form, flat, u, y, noise = problem(group_ranks=(3,))
    assert (paper.terms(flat, form, Settings(), LOG_SD, N_TOTAL, u, y, noise)[:, 3] == 0).all()
    assert by_kernel(form, Settings(), flat[0].numpy(), u[0].numpy(), y[0].numpy(), noise[0].numpy())[0][3] == 0
    assert (paper.partial_correlation(noise, noise, LOG_SD, (3,), N_TOTAL) == 0).all()


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_full_data_partial_correlation_of_gaussians_is_their_mutual_information(leave_one_out):
    rng, s, n = np.random.default_rng(0), 0.5, 1500
    mean = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], n)
    z = mean + s * rng.normal(size=mean.shape)
    tensors = [torch.tensor(a)[None] for a in (z, mean)]
    ours = paper.partial_correlation(*tensors, np.log(s), (1, 1), n, leave_one_out).item()
    expected = -0.5 * np.log(1 - (0.8 / (1 + s**2)) ** 2)
    assert ours == pytest.approx(expected, abs=0.04)  # sd of the mean of log ratios, 0.6 / sqrt(n), and the bias


def test_minibatch_estimate_lies_below_that_of_all_data():
    rng, n = np.random.default_rng(0), 512
    mean = torch.tensor(rng.normal(size=(1, n, 4)))
    z = mean + 0.5 * torch.tensor(rng.normal(size=(1, n, 4)))
    whole = paper.partial_correlation(z, mean, np.log(0.5), (2, 2), n)
    parts = [a.reshape(8, 64, 4) for a in (z, mean)]
    assert paper.partial_correlation(*parts, np.log(0.5), (2, 2), n).mean() < whole - 0.02


def test_kernels_do_not_underflow_far_from_every_neighbour():
    z = np.array([[0.0, 0.0], [300.0, -300.0], [-300.0, 200.0]])
    for own in (1.0, 0.0):
        dz, dmeans = np.zeros((3, 2)), np.zeros((2, 3))
        value = kernels.partial_correlation(
            z, np.ascontiguousarray(z.T), np.array([0, 1, 2]), 0.3, own, 3.0, 1.0, dz, dmeans
        )
        assert np.isfinite([value, *dz.ravel(), *dmeans.ravel()]).all()


def sources(n=400, units=8, seed=0):
    """Return features and targets of two independent uniform sources, and the sources (pair, 2)."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1, 1, (n, 2)) * np.sqrt(3)
    u = z @ rng.normal(size=(2, units)) + 0.3 * rng.normal(size=(n, units))
    return u, z @ rng.normal(size=(2, units)) + 0.3 * rng.normal(size=(n, units)), z


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(encoder="mlp", schedule="cosine"), Settings(batch_size=None)]
)
def test_kernels_train_as_torch_does(settings):
    u, y, _ = sources(n=97)
    settings = replace(
        settings, max_epochs=3, batch_size=settings.batch_size and 32
    )  # the last batch, of 1, is left out
    ours = training.train(u, y, (1, 1), settings, n_init=2, random_state=0)
    plain = training.train(u, y, (1, 1), settings, n_init=2, random_state=0, kernels=False)
    for name, values in ours.parameters.items():
        np.testing.assert_allclose(values, plain.parameters[name], atol=1e-9)  # AdamW divides by small gradients' size
    for name, values in ours.history.items():
        assert values.shape == (3, 2)
        np.testing.assert_allclose(values, plain.history[name], atol=1e-8)


def test_adamw_equals_its_formula():
    rng = np.random.default_rng(0)
    ours, first, second = rng.normal(size=7), np.zeros(7), np.zeros(7)
    theirs, gradients = ours.copy(), rng.normal(size=(5, 7))
    for count, grad in enumerate(gradients, start=1):
        kernels.adamw(ours, grad, first, second, count, 0.01, 0.1)
        weight = 0.9 ** np.arange(count)[::-1, None], 0.999 ** np.arange(count)[::-1, None]
        mean = (weight[0] * gradients[:count]).sum(0) / weight[0].sum()  # the corrections for the bias normalise
        square = (weight[1] * gradients[:count] ** 2).sum(0) / weight[1].sum()
        theirs = theirs * (1 - 0.01 * 0.1) - 0.01 * mean / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("kernels", [True, False])
def test_a_restart_is_the_same_alone_and_beside_others_and_again(kernels):
    u, y, _ = sources(n=100)
    settings = Settings(max_epochs=3, batch_size=32)
    runs = [training.train(u, y, (1, 1), settings, n_init=k, random_state=3, kernels=kernels) for k in (3, 1, 3)]
    for name, values in runs[0].parameters.items():
        np.testing.assert_array_equal(values, runs[2].parameters[name])
        # the kernels work restart by restart; batched matrix products may add in another order
        np.testing.assert_allclose(values[:1], runs[1].parameters[name], rtol=0, atol=0 if kernels else 1e-12)
        assert name == "log_sd" or not np.allclose(values[0], values[1])


def test_defaults_are_those_of_the_paper():
    form, flat, *_ = problem(Settings(), (3, 3), units=20, nets=1)
    parts = form.layout.unpack(flat)
    assert (parts["log_sd"] == -1).all()
    for name, width in (("encoder_weights", 20**-0.5), ("encoder_bias", 20**-0.5), ("offset", 6**-0.5)):
        assert 0.5 * width < parts[name].abs().max() <= width
    assert np.exp(paper.posterior_log_sd(1000, 6)) == pytest.approx(0.501, abs=5e-4)  # the paper's three decimals


def test_training_separates_planted_sources_and_held_out_pairs_judge_it():
    u, y, z = sources()
    held_out = np.arange(len(u)) % 4 == 0
    settings = Settings(max_epochs=400, learning_rate=1e-2, schedule="cosine", penalty=5.0)
    fit = training.train(u, y, (1, 1), settings, held_out=held_out, n_init=2, random_state=0)
    best = fit.of(fit.best)
    latents = u @ best["encoder_weights"].T + best["encoder_bias"]
    match = np.abs(np.corrcoef(latents.T, z.T)[:2, 2:])
    assert np.sort(match.max(axis=1)).min() > 0.95  # 0.71 is what a rotation by 45 degrees has
    value = training.conditional_log_likelihood(fit.parameters, u[held_out], y[held_out])
    np.testing.assert_allclose(fit.log_likelihood, value)
    assert fit.best == np.argmax(value)


def test_fine_tuning_keeps_the_held_out_likelihood_and_turns_latents_to_the_sources():
    u, y, z = sources(n=600)
    held_out = np.arange(len(u)) % 3 == 0
    turn = np.deg2rad(20)
    turned = z @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    inside = np.column_stack([u, np.ones(len(u))])[~held_out]
    encoder = np.linalg.lstsq(inside, turned[~held_out])[0]
    loadings = np.linalg.lstsq(turned[~held_out], y[~held_out])[0].T
    start = {
        "encoder_weights": encoder[:-1].T,
        "encoder_bias": encoder[-1],
        "loadings": loadings,
        "offset": np.zeros(8),
    }
    settings = replace(paper.FINE_TUNING, max_epochs=60, penalty=5.0)
    begun = training.train(u, y, (1, 1), replace(settings, max_epochs=0), held_out=held_out, start=start)
    fit = training.train(u, y, (1, 1), settings, held_out=held_out, start=start, random_state=0)
    np.testing.assert_allclose(begun.parameters["loadings"][0], loadings)
    assert fit.log_likelihood[0] > begun.log_likelihood[0] - 0.05  # nats a pair, of 8 units: a hundredth of their own

    def worst(parameters):
        latents = u @ parameters["encoder_weights"].T
        return np.abs(np.corrcoef(latents.T, z.T)[:2, 2:]).max(axis=1).min()

    assert worst(fit.of(0)) > worst(begun.of(0)) + 0.02


def test_a_known_part_of_the_mean_is_taken_off():
    u, y, _ = sources(n=60)
    given = np.random.default_rng(1).normal(size=y.shape)
    settings = Settings(max_epochs=2)
    ours = training.train(u, y + given, (1, 1), settings, given=given, random_state=0)
    plain = training.train(u, y, (1, 1), settings, random_state=0)
    np.testing.assert_allclose(ours.parameters["loadings"], plain.parameters["loadings"], atol=1e-9)  # y + g - g


@pytest.mark.parametrize("kernels", [True, False])
def test_a_loss_that_is_not_finite_stops_with_the_last_good_state(kernels):
    u, y, _ = sources(n=60)
    settings = Settings(max_epochs=40, learning_rate=1e3)
    fit = training.train(u, y, (1, 1), settings, n_init=2, random_state=0, kernels=kernels)
    assert "restarts was not finite, first in epoch" in fit.not_finite
    assert "the last good state was kept. Lower learning_rate" in fit.not_finite
    assert all(np.isfinite(values).all() for values in fit.parameters.values())
    assert np.isnan(fit.history["loss"][-1]).any()


def test_nothing_finite_is_an_error():
    u, y, _ = sources(n=60)
    with pytest.raises(FloatingPointError, match="not finite from epoch 1; X may be scaled extremely"):
        training.train(u, y * 1e200, (1, 1), Settings(max_epochs=2), random_state=0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoder": "linaer"}, "encoder: got 'linaer'.*did you mean 'linear'"),
        ({"schedule": "cosin"}, "schedule: got 'cosin'.*did you mean 'cosine'"),
        ({"batch_size": 1}, "batch_size: got 1, wanted at least 2"),
        ({"encoder": "mlp", "block_penalty": 1.0}, "block_penalty: got 1.0, wanted 0 with encoder='mlp'"),
    ],
)
def test_errors_name_what_is_wrong(change, text):
    u, y, _ = sources(n=60)
    with pytest.raises(ValueError, match=text):
        training.train(u, y, (1, 1), replace(Settings(), **change))
    with pytest.raises(ValueError, match="got 1 pairs of bins to train on"):
        training.train(u, y, (1, 1), held_out=np.arange(60) > 0)


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_objective_runs_on_the_meta_device_without_a_host_sync(settings):
    form, flat, *data = problem(settings)
    flat = flat.to("meta").requires_grad_()
    values = paper.terms(flat, form, settings, LOG_SD, N_TOTAL, *(t.to("meta") for t in data))
    (grad,) = torch.autograd.grad(values[:, 0].sum(), flat)
    assert grad.shape == flat.shape


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_on_cuda_equals_that_on_the_cpu(dtype):
    u, y, _ = sources(n=100)
    settings = Settings(max_epochs=3, batch_size=32)
    ours = training.train(u, y, (1, 1), settings, n_init=2, random_state=0, device="cuda", dtype=dtype)
    plain = training.train(u, y, (1, 1), settings, n_init=2, random_state=0)
    for name, values in ours.parameters.items():  # AdamW moves by lr whatever the size of a gradient
        np.testing.assert_allclose(values, plain.parameters[name], atol=1e-8 if dtype == "float64" else 1e-3)


def bent(n=700, seed=0):
    """Return features, and latents that are a linear and a V-shaped function of them."""
    rng = np.random.default_rng(seed)
    u = 3 * rng.normal(size=(n, 4)) + 1
    along = (u - 1) @ rng.normal(size=(4, 2)) / 6
    return u, np.column_stack([along[:, 0], np.abs(along[:, 1])])


def test_mlp_recovers_a_nonlinear_map():
    u, z = bent()
    fit = mlp.fit_mlp(u[:500], z[:500], max_epochs=30, random_state=0)
    error = ((encode(fit.parameters, u[500:]) - z[500:]) ** 2).mean(0) / z[500:].var(0)
    assert (error < 0.05).all()  # what a linear map leaves of the second is 1
    assert fit.parameters["hidden_weights"].shape == (32, 4)
    assert fit.parameters["output_weights"].shape == (2, 32)
    again = mlp.fit_mlp(u[:500], z[:500], max_epochs=30, random_state=0)
    np.testing.assert_array_equal(again.parameters["hidden_weights"], fit.parameters["hidden_weights"])


def test_mlp_is_never_worse_than_the_linear_regression_that_it_begins_as():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(300, 10))
    z = u[:, :2] + 2.0 * rng.normal(size=(300, 2))
    held_out = np.arange(300) % 3 == 0
    fit = mlp.fit_mlp(u, z, held_out=held_out, max_epochs=30, random_state=0)
    design = np.column_stack([u, np.ones(300)])
    linear = design[held_out] @ np.linalg.lstsq(design[~held_out], z[~held_out])[0]
    scale = z[~held_out].var(0)
    ours = (((encode(fit.parameters, u[held_out]) - z[held_out]) ** 2) / scale).mean()
    assert ours <= (((linear - z[held_out]) ** 2) / scale).mean() * 1.005  # the start has a ridge of a thousandth


def test_mlp_leaves_out_pairs_without_weight_and_says_where_there_are_none():
    u, z = bent(300)
    spoilt, weights = z.copy(), np.ones(300)
    spoilt[::3], weights[::3] = 1e3, 0.0
    fit = mlp.fit_mlp(u, spoilt, weights=weights, max_epochs=20, random_state=0)
    assert np.abs(encode(fit.parameters, u) - z).max() < 10
    with pytest.raises(ValueError, match="got no pairs of bins to train on"):
        mlp.fit_mlp(u, z, weights=np.zeros(300))
    with pytest.raises(ValueError, match="got no pairs of bins to stop by"):
        mlp.fit_mlp(u, z, held_out=np.zeros(300, dtype=bool))
