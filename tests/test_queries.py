"""A query as a condition: what it picks, also of columns of 0 and 1 and with values missing, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from nwb_lrrnn.queries import fulfilled, names_in

TABLE = pd.DataFrame(
    {
        "correct": np.array([1, 0, 0, 1, 1, 0], dtype=np.uint8),
        "as_float": [1.0, 0.0, 0.0, 1.0, 1.0, 0.0],
        "is_correct": [True, False, False, True, True, False],
        "partly": [1.0, np.nan, 0.0, np.nan, 1.0, 0.0],
        "some": np.array([True, None, False, None, True, False], dtype=object),
        "lap": [1, 2, 3, 4, 5, 6],
        "side": ["left", "right", "left", "right", "left", "right"],
        "Go Cue [s]": np.array([0, 1, 1, 0, 0, 0], dtype=np.int8),
    }
)


def picked(query):
    return np.flatnonzero(fulfilled(query, TABLE, f"trials: the query {query!r}", "trial")).tolist()


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("correct", [0, 3, 4]),
        ("as_float", [0, 3, 4]),
        ("is_correct", [0, 3, 4]),
        ("correct == 1", [0, 3, 4]),
        ("not correct", [1, 2, 5]),
        ("~correct", [1, 2, 5]),
        ("~as_float", [1, 2, 5]),
        ("correct and side == 'left'", [0, 4]),
        ("side == 'left' & as_float", [0, 4]),
        ("not correct or lap == 1", [0, 1, 2, 5]),  # 254 and 255 are true, where `not` turns the bits of an integer
        ("~correct | lap == 1", [0, 1, 2, 5]),
        ("(not correct and lap > 2) or lap == 1", [0, 2, 5]),
        ("`Go Cue [s]`", [1, 2]),
        ("not `Go Cue [s]` and correct", [0, 3, 4]),
        ("partly", [0, 4]),
        ("not partly", [2, 5]),  # what is missing is neither
        ("some", [0, 4]),
        ("not some and lap > 3", [5]),
        ("partly > 0.5", [0, 4]),
        ("correct + lap > 5", [4, 5]),  # a number where it is taken for one
        ("correct and lap - correct > 2", [3, 4]),
        ("side.str.startswith('l')", [0, 2, 4]),
        ("lap > 100", []),
    ],
)
def test_rows_that_fulfil_a_query(query, rows):
    assert picked(query) == rows


@pytest.mark.parametrize("labels", [[1, 0, 2, 5, 4, 3], list("abcdef"), [7, 7, 7, 7, 7, 7]])
def test_the_labels_of_the_rows_do_not_matter(labels):
    table = TABLE.set_axis(labels)
    assert np.flatnonzero(fulfilled("correct", table, "x", "trial")).tolist() == [0, 3, 4]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("lap", r"gives values of type int64 where it names 'lap' alone, such as 1, 2, 3, wanted .* \"lap == 1\""),
        ("side", "where it names 'side' alone, such as 'left', 'right', wanted a condition, one boolean per trial"),
        ("correct and lap", "where it names 'lap' alone"),
        ("correct * 1", "gives values of type .*, wanted a condition, one boolean per trial"),
        ("1", "gives .*1.*, wanted a condition"),
        ("True", "gives .*True.*, wanted a condition"),
        ("correct.sort_values() > 0", "gives values of type bool, wanted a condition"),
        ("corect", "wanted a pandas query over the columns .*; did you mean 'correct'"),
        ("lap = 3", "trials: the query 'lap = 3' fails"),
        ("lap >", "wanted a pandas query over the columns"),
    ],
)
def test_what_is_no_condition_is_refused(query, message):
    with pytest.raises(ValueError, match=message):
        picked(query)


def test_names_that_a_query_asks_for():
    assert names_in("trial <= 2 and `Go Cue [s]` > 0") == {"trial", "Go Cue [s]"}
    assert names_in("side == 'trial'") == {"side"}
    assert "trial" in names_in("trial >")  # it cannot be parsed: every word
