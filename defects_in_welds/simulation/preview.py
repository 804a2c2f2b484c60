"""A contact sheet with one simulated flaw of each class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt16
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from defects_in_welds.data.grey_levels import percentile_window, window_level
from defects_in_welds.params import ParamsError, SimulateParams
from defects_in_welds.params.simulate import LEAST_SIDE_PX
from defects_in_welds.simulation.bodies import FlawBody
from defects_in_welds.simulation.flaws import FLAW_KINDS
from defects_in_welds.simulation.scene import SimulatedFilm, simulate_film
from defects_in_welds.taxonomy import iso_6520_1_number

_COLUMNS = 3
_CROP_MM = 14.0, 32.0
_WINDOW_MM = 4.0  # grey levels this near to the flaw are shown from black to white
_FILM_MM = 30.0, 100.0
_CELL_INCHES = 4.4, 2.25
_DPI = 130
_SCALE_BAR_MM = 5.0
_MOST_TRIES = 40


def draw_flaw_sheet(params: SimulateParams, path: Path) -> None:
    """Draw one flaw of each class that the simulator knows, whether or not the parameters put it on films.

    Args:
        params: What is simulated; size and number of the films and of the flaws on them do not count.
        path: The picture to write.

    Raises:
        ParamsError: If a class finds no room on a film.
    """
    height, width = (max(LEAST_SIDE_PX, int(side_mm / params.pixel_pitch_mm)) for side_mm in _FILM_MM)
    params = replace(params, height_px=height, width_px=width, films_per_weld=1, defect_free_share=0.0)
    rows = -(-len(FLAW_KINDS) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _CELL_INCHES[0], rows * _CELL_INCHES[1]), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, kind in zip(axes, tqdm(FLAW_KINDS, "preview", unit="class"), strict=False):
        film, flaw = _film_with(params, kind)
        _draw_crop(axis, film.pixels, flaw, params.pixel_pitch_mm)
        number = iso_6520_1_number(flaw.defect_class)
        axis.set_title(f"{flaw.defect_class} ({number}), {flaw.length_mm:.1f} x {flaw.width_mm:.1f} mm", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the date and version that matplotlib writes by itself, the same parameters give the same bytes.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})


def _film_with(params: SimulateParams, kind: str) -> tuple[SimulatedFilm, FlawBody]:
    """Simulate films until one shows a flaw of a kind well, or take the best of many."""
    numbers = {name: replace(flaw, most_per_film=3 if name == kind else 0) for name, flaw in vars(params.flaws).items()}
    params = replace(params, flaws=replace(params.flaws, **numbers))
    best: tuple[float, SimulatedFilm, FlawBody] | None = None
    for film in range(_MOST_TRIES):
        simulated = simulate_film(params, film)
        for flaw, visibility in zip(simulated.flaws, simulated.visibilities, strict=True):
            if best is None or visibility.cnr > best[0]:
                best = visibility.cnr, simulated, flaw
        if best is not None and best[0] >= 3 * params.visible_cnr:
            break
    if best is None:
        raise ParamsError(
            f"params: no simulate.flaws.{kind} finds room on a weld of {_FILM_MM[1]:g} mm; make it or the plate smaller"
        )
    return best[1:]


def _draw_crop(axis: Axes, pixels: UInt16[np.ndarray, "height width"], flaw: FlawBody, pitch_mm: float) -> None:
    """Draw the surroundings of a flaw with a bar for the scale."""
    height, width = pixels.shape
    x0, y0, x1, y1 = flaw.box_xyxy
    crop_hw = [
        min(side, max(int(crop_mm / pitch_mm), int(1.3 * extent)))
        for side, crop_mm, extent in ((height, _CROP_MM[0], y1 - y0), (width, _CROP_MM[1], x1 - x0))
    ]
    top = min(max((y0 + y1 - crop_hw[0]) // 2, 0), height - crop_hw[0])
    left = min(max((x0 + x1 - crop_hw[1]) // 2, 0), width - crop_hw[1])
    crop = pixels[top : top + crop_hw[0], left : left + crop_hw[1]]
    near = int(_WINDOW_MM / pitch_mm)
    around = pixels[max(0, y0 - near) : y1 + near, max(0, x0 - near) : x1 + near]
    axis.imshow(window_level(crop, *percentile_window(around)), cmap="gray", vmin=0, vmax=255)
    bar_px = _SCALE_BAR_MM / pitch_mm
    x, y = 0.03 * crop_hw[1], 0.94 * crop_hw[0]
    axis.plot([x, x + bar_px], [y, y], color="white", linewidth=3, solid_capstyle="butt")
    axis.plot([x, x + bar_px], [y, y], color="black", linewidth=1.2, solid_capstyle="butt")
    axis.annotate(
        f"{_SCALE_BAR_MM:g} mm",
        (x + bar_px, y),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=7,
        va="center",
        color="white",
        bbox={"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 0.8},
    )
