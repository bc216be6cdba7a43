"""The table of a comparison as it is shown: whole, with its verdict, and with the sign that a reader expects."""

import pickle

import numpy as np
import pandas as pd
import pytest

from nwb_lrrnn.compare import Comparison, compare_baselines, table_text
from nwb_lrrnn.models.linear import LinearStateSpace


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 20, 4)).cumsum(axis=1)
    return compare_baselines(LinearStateSpace(2, tol=1e-1), X, cv=2, larger_ranks=())


def test_table_of_scores():
    table = pd.DataFrame(
        {
            "log_likelihood": [-3.0, -2.5],
            "vs_mean_rate": [0.0, 0.5],
            "model_above": [0.5, 0.0],
            "low": [0.4, 0.0],
            "high": [0.6, 0.0],
        },
        index=["mean rate", "model"],
    )
    table.attrs = {"n_trials": 4, "n_bins": 40}
    lines = [
        "log-likelihood of 4 held-out trials (40 bins), nats per bin",
        "             score  over mean rate  the model is above it by [95 %]",
        "mean rate  -3.0000         +0.0000       +0.5000 [+0.4000, +0.6000]",
        "model      -2.5000         +0.5000",
    ]
    assert table_text(table).splitlines() == lines
    table.attrs |= {"verdict": "nonlinear dynamics supported: " + "so " * 30, "n_blocks": 5, "block_length": 3}
    table.attrs["interval_over"] = "windows"
    assert table_text(table).splitlines() == [
        "log-likelihood of 4 held-out windows (40 bins), nats per bin",
        *lines[1:],
        "",
        "The intervals are over blocks of up to 3 windows, at least 5 blocks.",
        "Verdict: nonlinear dynamics supported: " + " ".join(["so"] * 24),
        " ".join(["so"] * 6),
    ]
    del table.attrs["verdict"]
    table["gain_high"] = [0.0, -0.1]
    assert table_text(table).splitlines()[-1] == "Below the mean rate, and useless: model."


def test_a_model_is_above_what_scores_below_it(table):
    score = table["log_likelihood"]
    np.testing.assert_allclose(table["model_above"], score.iloc[-1] - score)
    others = table.iloc[:-1]
    assert ((others["low"] < others["model_above"]) & (others["model_above"] < others["high"])).all()
    assert table["low"]["mean rate"] > 0  # steps of a walk are not constant


def test_it_prints_whole_and_ends_in_its_verdict(table):
    shown = table.copy().pipe(lambda plain: Comparison(plain))
    shown.attrs = table.attrs | {"verdict": "nonlinear dynamics <undecided>: as it is."}
    with pd.option_context("display.max_rows", 2, "display.max_columns", 2):
        text, html = repr(shown), shown._repr_html_()
    assert all(name in text and name in html for name in table.index)
    assert "..." not in text
    assert text.endswith("Verdict: nonlinear dynamics <undecided>: as it is.")
    assert "<p>Verdict: nonlinear dynamics &lt;undecided&gt;: as it is.</p>" in html
    assert str(shown) == text


def test_it_is_a_frame_to_pandas(table, tmp_path):
    again = pickle.loads(pickle.dumps(table))
    assert repr(again) == repr(table)
    assert again.attrs == table.attrs
    pd.testing.assert_frame_equal(again, table)
    for part in (table[["low", "high"]], table.iloc[:2], table.round(2), table.T, table[table["low"] > 0]):
        assert type(part) is pd.DataFrame
        assert part.attrs == table.attrs
    table.to_csv(tmp_path / "table.csv")
    back = pd.read_csv(tmp_path / "table.csv", index_col="model")
    np.testing.assert_allclose(back["model_above"], table["model_above"])
    assert set(table.to_xarray()) == set(table.columns)
    more = pickle.loads(pickle.dumps(table))
    more.loc["mean rate", "mine"] = 3.0  # what the text would hide is shown as pandas shows it
    assert "mine" in repr(more)


@pytest.mark.parametrize(
    "ask",
    [
        lambda table: table["vs_model"],
        lambda table: table.vs_model,
        lambda table: table[["low", "vs_model"]],
        lambda table: table.loc["mean rate", "vs_model"],
        lambda table: table.loc[:, ["vs_model"]],
    ],
)
def test_the_name_that_it_had_says_what_it_is_now(table, ask):
    with pytest.raises((KeyError, AttributeError), match=r"vs_model: .*`model_above`, the model minus this row"):
        ask(table)
    with pytest.raises(KeyError, match="^'?other"):
        table["other"]
