"""Small films that several tests of the evaluation build."""

import numpy as np
from hypothesis import strategies as st

from defects_in_welds.data.annotation import MEASURES
from defects_in_welds.evaluation.film_results import FilmResult, Truth
from defects_in_welds.inference.detections import Detections


def make_film(flaws, found, name="film.png", image_hw=(100, 200), pixel_pitch_mm=0.1, weld=None, **measures):
    """A film from rows of (x0, y0, x1, y1, label, is difficult) and of (x0, y0, x1, y1, label, score).

    Measures such as ``length_mm`` hold a value for each flaw.
    """
    truth = np.array(flaws, dtype=np.float32).reshape(-1, 6)
    detected = np.array(found, dtype=np.float32).reshape(-1, 6)
    unknown = np.full(len(truth), np.nan)
    return FilmResult(
        name,
        name if weld is None else weld,
        image_hw,
        pixel_pitch_mm,
        Truth(
            truth[:, :4],
            truth[:, 4].astype(np.int64),
            truth[:, 5].astype(np.bool_),
            {m: np.array(measures.get(m, unknown)) for m in MEASURES},
        ),
        Detections(detected[:, :4], detected[:, 5], detected[:, 4].astype(np.int64)),
    )


@st.composite
def boxes(draw):
    """Small boxes in a small place, so that many of them overlap."""
    x0, y0 = draw(st.integers(0, 6)), draw(st.integers(0, 2))
    return x0, y0, x0 + draw(st.integers(1, 8)), y0 + draw(st.integers(1, 3))


@st.composite
def films(draw, name="film.png"):
    flaws = [
        (*draw(boxes()), draw(st.integers(1, 2)), draw(st.sampled_from([False, False, False, True])))
        for _ in range(draw(st.integers(0, 6)))
    ]
    found = [
        (*draw(boxes()), draw(st.integers(1, 2)), draw(st.integers(1, 8)) / 8) for _ in range(draw(st.integers(0, 8)))
    ]
    found.sort(key=lambda row: -row[5])
    return make_film(flaws, found, name=name)
