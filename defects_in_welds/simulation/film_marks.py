"""Marks that the scanner and handling leave on a film: streaks, scratches, dust, water marks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import FilmParams
from defects_in_welds.simulation.exact_math import exp, sin_cos_deg, smooth_curve, smooth_field, uniform, uniform_in

Patch = Float[np.ndarray, "rows columns"]


@dataclass(frozen=True, eq=False)
class FilmMark:
    """A mark that is no image of the object.

    Attributes:
        kind: Streak, scratch, dust or water mark.
        top_px: Row of the patch on the film.
        left_px: Column of the patch on the film.
        density: Density that the mark adds; below 0 it is lighter than the film around it.
    """

    kind: str
    top_px: int
    left_px: int
    density: Patch


def draw_film_marks(
    rng: np.random.Generator, params: FilmParams, image_hw: tuple[int, int], pixel_pitch_mm: float
) -> list[FilmMark]:
    """Draw the marks of a film; how many of each kind follows Poisson's law around a mean that is drawn too.

    Args:
        rng: Source of the draws.
        params: Ranges of the mean numbers.
        image_hw: Height and width of the picture, in pixels.
        pixel_pitch_mm: Pixel pitch, in mm.
    """
    marks = draw_streaks(rng, draw_count(rng, uniform_in(rng, params.streaks_per_film)), image_hw, pixel_pitch_mm)
    kinds: list[tuple[list[float], Callable[[np.random.Generator, tuple[int, int], float], FilmMark]]] = [
        (params.scratches_per_film, draw_scratch),
        (params.dust_per_film, draw_dust),
        (params.water_marks_per_film, draw_water_mark),
    ]
    for mean_range, draw in kinds:
        count = draw_count(rng, uniform_in(rng, mean_range))
        marks += [draw(rng, image_hw, pixel_pitch_mm) for _ in range(count)]
    return marks


def draw_count(rng: np.random.Generator, mean: float) -> int:
    """Draw a number by Poisson's law: so many uniform numbers can be multiplied before they fall below exp(-mean)."""
    limit, product, count = float(exp(np.array(-mean))), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def draw_streaks(
    rng: np.random.Generator, count: int, image_hw: tuple[int, int], pixel_pitch_mm: float
) -> list[FilmMark]:
    """Draw faint light lines across the film, as a scanner's rollers leave: parallel, at about equal distances.

    Each is fainter than the one before and fades in and out along its way.
    """
    height, width = image_hw
    place_mm, distance_mm = uniform(rng, 0.05, 0.9) * width * pixel_pitch_mm, uniform(rng, 4.5, 6.5)
    slope, density = uniform(rng, -0.02, 0.02), uniform(rng, 0.03, 0.1)
    across_mm = _middles_mm(height, pixel_pitch_mm)
    marks = []
    for _ in range(count):
        half_mm = uniform(rng, 0.1, 0.25)
        reach_mm = abs(slope) * height * pixel_pitch_mm / 2.0 + half_mm + 0.5
        left, right = (int(np.floor((place_mm + side * reach_mm) / pixel_pitch_mm)) for side in (-1, 1))
        left, right = max(0, left), min(width, right)
        if left < right:
            middle_mm = place_mm + slope * (across_mm - height * pixel_pitch_mm / 2.0)
            middle_mm += 0.03 * smooth_curve(rng, height, 8.0 / pixel_pitch_mm)
            off = ((np.arange(left, right) + 0.5) * pixel_pitch_mm - middle_mm[:, None]) / half_mm
            fading = 0.65 + 0.5 * smooth_curve(rng, height, 6.0 / pixel_pitch_mm)
            bell = np.maximum(0.0, 1.0 - off * off)
            marks.append(FilmMark("streak", 0, left, -density * np.maximum(fading, 0.0)[:, None] * bell))
        place_mm, density = place_mm + distance_mm * uniform(rng, 0.93, 1.07), density * uniform(rng, 0.6, 1.0)
    return marks


def draw_scratch(rng: np.random.Generator, image_hw: tuple[int, int], pixel_pitch_mm: float) -> FilmMark:
    """Draw a long thin line, bent and broken: mostly light, where the emulsion is gone."""
    length_mm, width_mm = uniform(rng, 4.0, 40.0), uniform(rng, 0.03, 0.12)
    density = uniform(rng, 0.1, 0.5) * (1.0 if rng.random() < 0.3 else -1.0)
    return _draw_line("scratch", rng, image_hw, pixel_pitch_mm, length_mm, width_mm, density, bend=0.08)


def draw_dust(rng: np.random.Generator, image_hw: tuple[int, int], pixel_pitch_mm: float) -> FilmMark:
    """Draw a speck: dust before the film keeps electrons of the screen from it, and is light; dark in the scanner.

    A dark one is a fibre or a grain, as it takes the scanner's light.
    """
    kind = rng.random()
    if kind < 0.25:
        length_mm, width_mm = uniform(rng, 0.4, 2.5), uniform(rng, 0.03, 0.07)
        return _draw_line("dust", rng, image_hw, pixel_pitch_mm, length_mm, width_mm, uniform(rng, 0.1, 0.4), bend=0.5)
    half_long_mm = uniform(rng, 0.08, 0.35)
    half_short_mm = half_long_mm * uniform(rng, 0.3, 0.9)
    density = uniform(rng, 0.15, 0.8) * (1.0 if kind < 0.45 else -1.0)
    top, left, inside = _draw_blob(rng, image_hw, pixel_pitch_mm, half_long_mm, half_short_mm, ruggedness=0.4)
    # A slope of the field that takes it from 0 to 1 within about a pixel of the outline.
    return FilmMark("dust", top, left, density * np.clip(0.5 * half_short_mm / pixel_pitch_mm * inside, 0.0, 1.0))


def draw_water_mark(rng: np.random.Generator, image_hw: tuple[int, int], pixel_pitch_mm: float) -> FilmMark:
    """Draw a dried drop: large, faint, with a rim."""
    half_long_mm = uniform(rng, 1.5, 8.0)
    half_short_mm = half_long_mm * uniform(rng, 0.5, 1.0)
    density = uniform(rng, 0.02, 0.06) * (1.0 if rng.random() < 0.5 else -1.0)
    top, left, inside = _draw_blob(rng, image_hw, pixel_pitch_mm, half_long_mm, half_short_mm, ruggedness=0.35)
    rim_width = 0.3 / half_short_mm  # in the field's unit
    rim = np.maximum(0.0, 1.0 - np.abs(inside - rim_width) / rim_width)
    body = np.clip(inside / rim_width, 0.0, 1.0)
    return FilmMark("water mark", top, left, density * (0.4 * body + uniform(rng, 0.5, 1.0) * rim))


def _draw_blob(
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    pixel_pitch_mm: float,
    half_long_mm: float,
    half_short_mm: float,
    ruggedness: float,
) -> tuple[int, int, Patch]:
    """Draw an uneven ellipse anywhere on the film: a field that is above 0 inside."""
    (top, left), along, across = _draw_frame(rng, image_hw, pixel_pitch_mm, 1.3 * half_long_mm)
    along, across = along / half_long_mm, across / half_short_mm
    uneven = smooth_field(rng, (along.shape[0], along.shape[1]), 0.6 * half_short_mm / pixel_pitch_mm)
    return top, left, 1.0 - along * along - across * across + ruggedness * uneven


def _draw_line(
    kind: str,
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    pixel_pitch_mm: float,
    length_mm: float,
    width_mm: float,
    density: float,
    bend: float,
) -> FilmMark:
    """Draw a bent line anywhere on the film; one thinner than a pixel shades it in part."""
    (top, left), along, across = _draw_frame(rng, image_hw, pixel_pitch_mm, 0.5 * length_mm)
    run = np.clip(along / length_mm + 0.5, 0.0, 1.0)
    bow = uniform(rng, -bend, bend) * length_mm
    fine, strength = 0.01 * length_mm * smooth_curve(rng, 257, 40.0), 0.7 + 0.6 * smooth_curve(rng, 257, 25.0)
    step = (256.0 * run).astype(np.int64)
    off = np.abs(across - 4.0 * bow * run * (1.0 - run) - fine[step])
    shade = np.clip((width_mm / 2.0 - off) / pixel_pitch_mm + 0.5, 0.0, min(1.0, width_mm / pixel_pitch_mm))
    shade *= np.clip(strength, 0.0, 1.0)[step]
    shade *= (along > -0.5 * length_mm) & (along < 0.5 * length_mm)
    return FilmMark(kind, top, left, density * shade)


def _draw_frame(
    rng: np.random.Generator, image_hw: tuple[int, int], pixel_pitch_mm: float, reach_mm: float
) -> tuple[tuple[int, int], Patch, Patch]:
    """Draw a place and a direction on the film.

    Returns:
        Row and column of a patch that holds all within the reach, and each pixel's distance from the place along and
        across the direction, in mm.
    """
    middle_px = [rng.random() * size for size in image_hw]
    sine, cosine = sin_cos_deg(360.0 * rng.random())
    reach_px = reach_mm / pixel_pitch_mm + 2.0
    first = [max(0, int(np.floor(middle - reach_px))) for middle in middle_px]
    last = [min(size, int(np.ceil(middle + reach_px))) for middle, size in zip(middle_px, image_hw, strict=True)]
    y, x = (
        (np.arange(low, high) + 0.5 - middle) * pixel_pitch_mm
        for low, high, middle in zip(first, last, middle_px, strict=True)
    )
    along = cosine * x[None, :] + sine * y[:, None]
    across = cosine * y[:, None] - sine * x[None, :]
    return (first[0], first[1]), along, across


def _middles_mm(samples: int, pixel_pitch_mm: float) -> Float[np.ndarray, " samples"]:
    """Middles of pixels, in mm."""
    return (np.arange(samples) + 0.5) * pixel_pitch_mm
