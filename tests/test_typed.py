"""What a type checker and scikit-learn are told: documented attributes, names that parameters take, names of latents.

Whether the types are right is what pyright says of user_types.py.
"""

import inspect
import re
from importlib.resources import files
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from nwb_lrrnn import LinearStateSpace, ZScore, models, preprocessing
from nwb_lrrnn import parameters as names
from nwb_lrrnn.dynamics import LIKELIHOODS
from nwb_lrrnn.dynamics.links import LINKS
from nwb_lrrnn.models import linear
from nwb_lrrnn.models.dis import settings
from nwb_lrrnn.models.smc import bound, encoder
from nwb_lrrnn.trials import as_frame
from small_models import MODELS, recording

STEPS = [step for name in preprocessing.__all__ if hasattr(step := getattr(preprocessing, name), "fit")]
CLASSES = [type(model) for model in MODELS.values()] + STEPS


def documented(cls):
    """Return the names of fitted attributes in the docstring of a class."""
    section = re.search(r"\nAttributes\n-+\n(.*?)(?=\n\n\w+\n-+\n|\Z)", inspect.getdoc(cls), re.S)
    heads = [line.split(":")[0] for line in section[1].splitlines() if line[:1].strip()] if section else []
    return [name.strip() for head in heads for name in head.split(",")]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_documented_attributes_have_a_type(cls):
    annotated = set().union(*(inspect.get_annotations(base) for base in cls.__mro__))
    properties = {name for name, value in inspect.getmembers_static(cls) if isinstance(value, property)}
    assert set(documented(cls)) <= annotated | properties


def test_the_documented_attributes_are_read_from_the_docstring():
    assert {"dynamics_", "loadings_", "offset_", "largest_jump_"} <= set(documented(models.LowRankRNN))
    assert documented(linear.MeanRate) == ["mean_", "variance_", "dispersion_"]


def choices(cls, parameter):
    """Return the names that the annotation of a constructor parameter lists."""
    hint = get_type_hints(cls.__init__)[parameter]
    parts = [get_args(part) or (part,) for part in get_args(hint)]
    return {name for part in parts for name in part} - {type(None)}


@pytest.mark.parametrize(
    ("cls", "parameter", "valid"),
    [
        *((cls, "likelihood", ("auto", *LIKELIHOODS)) for cls in (models.LowRankRNN, models.SMCLowRankRNN)),
        *((cls, "link", LINKS) for cls in (models.LowRankRNN, LinearStateSpace, linear.UnitAutoregression)),
        (models.DisRNN, "likelihood", models.DisRNN._likelihoods),
        (models.DisRNN, "link", ("identity", "softplus", "exp")),
        (models.DisRNN, "nonlinearity", settings.NONLINEARITIES),
        (models.DisRNN, "noise", settings.NOISES),
        (models.DisRNN, "encoder", settings.ENCODERS),
        (models.DisRNN, "objective", settings.OBJECTIVES),
        (models.DisRNN, "scaling", settings.SCALINGS),
        (models.SMCLowRankRNN, "proposal", bound.PROPOSALS),
        (models.SMCLowRankRNN, "encoder_padding", encoder.PADDINGS),
    ],
)
def test_names_in_types_are_the_valid_ones(cls, parameter, valid):
    assert choices(cls, parameter) == set(valid)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_defaults_are_among_the_names(model):
    for name, parameter in inspect.signature(type(model)).parameters.items():
        kind = str(parameter.annotation)
        if "Literal" in kind or kind in vars(names).keys() - {"Any"}:
            assert parameter.default is None or parameter.default in choices(type(model), name)


def test_the_package_says_that_it_is_typed():
    assert files("nwb_lrrnn").joinpath("py.typed").is_file()


def test_latents_have_the_names_of_their_columns():
    X = recording()
    frame = pd.DataFrame(X[0].values, index=X["time"].values, columns=X["unit"].values)
    model = LinearStateSpace(2, max_iter=2, tol=1e9).fit(frame)
    assert list(model.get_feature_names_out()) == list(model.transform(frame).columns) == ["latent0", "latent1"]
    pipeline = make_pipeline(ZScore(), clone(model)).fit(as_frame(frame))
    assert list(pipeline.get_feature_names_out()) == ["latent0", "latent1"]
    with pytest.raises(ValueError, match="input_features"):
        model.get_feature_names_out(["a"])


def test_the_kind_of_x_decides_what_comes_out_and_nothing_offers_to_change_it():
    model = LinearStateSpace(1)
    assert not hasattr(model, "set_output")
    assert "set_output" not in dir(model)
    assert {"fit", "transform", "get_feature_names_out"} <= set(dir(model))
    assert "set_output" not in dir(ZScore())


def test_a_model_without_latents_has_no_names_for_them():
    model = linear.MeanRate().fit(np.array([[0, 2], [1, 3]]))
    with pytest.raises(AttributeError, match="without latents"):
        model.get_feature_names_out()
