"""Where figures are drawn: into given axes, or a new figure of pyplot; and how a notebook shows them, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Page(np.ndarray):
    """The array of the Axes of one figure; `page.figure` is the figure."""

    @property
    def figure(self) -> Figure:
        """The figure that the axes are on."""
        return self.flat[0].figure

    def _ipython_display_(self) -> None:
        _Shown(self.flat[0])()


class _Shown:
    """What a notebook does with axes that end a cell: their picture, where the cell does not end in it anyway."""

    def __init__(self, axes: Axes):
        self.axes = axes

    def __call__(self) -> None:
        import matplotlib
        from IPython.display import Image, display  # pyright: ignore[reportMissingImports]
        from matplotlib import pyplot as plt

        figure: Any = self.axes.figure
        is_open = getattr(figure, "number", None) in plt.get_fignums()
        backend = matplotlib.get_backend().lower()
        if is_open and backend not in ("agg", "pdf", "svg", "ps", "cairo", "template", "pgf"):
            return  # the backend shows every open figure when the cell ends, or has shown it in a window
        display(Image(data=_png(figure)))
        plt.close(figure)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, which pyplot knows."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("plotting needs matplotlib, which is not installed: pip install 'nwb-lrrnn[plot]'") from error
    return plt.figure(figsize=(width, height), dpi=150, layout="constrained")


def new_axes(width: float, height: float, ax: Axes | None) -> Axes:
    """Return the axes that were given, or those of a new figure."""
    return new_figure(width, height).add_subplot() if ax is None else ax


def finished(axes: Axes) -> Axes:
    """Return axes with the letters and frames of all figures here; global settings stay as they are."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.title.set_fontsize(10)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(9)
    axes._ipython_display_ = _Shown(axes)  # pyright: ignore[reportAttributeAccessIssue]
    return axes


def page_of(axes: Any) -> Page:
    """Return axes, in any nesting, as a finished page."""
    page = np.asarray(axes, dtype=object).view(Page)
    for one in page.flat:
        finished(one)
    for other in page.figure.axes:  # colour bars
        other.tick_params(labelsize=8)
    return page


def save(page: Page, path: Any) -> None:
    """Write the figure of a page, and let go of it."""
    from matplotlib import pyplot as plt

    page.figure.savefig(path)
    plt.close(page.figure)


def _png(figure: Figure) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
