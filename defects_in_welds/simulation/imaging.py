"""From a weld with flaws to pixels, and how well each flaw shows in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt16

from defects_in_welds.simulation.beam import METAL, Beam
from defects_in_welds.simulation.bodies import FlawBody
from defects_in_welds.simulation.detector import FULL_SCALE, Detector

_VISIBLE_MARGIN_MM = 0.5  # blur carries a flaw's contrast beyond its outline
_ROUNDING_VARIANCE = 1.0 / 12.0  # of whole grey levels: the least noise of any picture


@dataclass(frozen=True)
class Visibility:
    """How a flaw shows on a radiograph.

    Attributes:
        contrast: Largest relative change of the radiation behind it, scattered radiation included; below 0 where the
            flaw lets less through than the sound weld.
        cnr: Contrast-to-noise ratio: largest change of the noise-free grey level over the noise's standard deviation
            in a pixel. What lies beyond black or white does not show and does not count.
    """

    contrast: float
    cnr: float


def put_into(path_mm: Float[np.ndarray, "height width"], flaw: FlawBody, beam: Beam) -> None:
    """Put a flaw into the metal along the beam, in place.

    Args:
        path_mm: Base metal along the beam.
        flaw: Its material stands for base metal; added metal stands beside it.
        beam: Tells how much base metal attenuates like the flaw's material.
    """
    rows, columns = flaw.chord_mm.shape
    place = path_mm[flaw.top_px : flaw.top_px + rows, flaw.left_px : flaw.left_px + columns]
    place += (1.0 if flaw.material == METAL else beam.equivalent_mm(flaw.material) - 1.0) * flaw.chord_mm
    np.maximum(place, 0.0, out=place)


def expose(
    path_mm: Float[np.ndarray, "height width"],
    flaws: Sequence[FlawBody],
    beam: Beam,
    detector: Detector,
    rng: np.random.Generator,
    pixel_pitch_mm: float,
) -> tuple[UInt16[np.ndarray, "height width"], list[Visibility]]:
    """Take a radiograph of a weld with flaws.

    Args:
        path_mm: Base metal along the beam through the sound weld and all that lies on it.
        flaws: The flaws; their boxes do not overlap.
        beam: The beam.
        detector: The detector.
        rng: Source of the noise.
        pixel_pitch_mm: Pixel pitch, in mm.

    Returns:
        16-bit grey levels, and how each flaw shows.
    """
    field = beam.field(path_mm.shape, pixel_pitch_mm)
    sound_signal = beam.signal(path_mm, pixel_pitch_mm, field)
    if not flaws:
        return detector.read_out(detector.render(sound_signal), rng), []
    flawed_mm = path_mm.copy()
    for flaw in flaws:
        put_into(flawed_mm, flaw, beam)
    signal = beam.signal(flawed_mm, pixel_pitch_mm, field)
    grey, sound_grey = detector.render(signal), detector.render(sound_signal)
    noise = detector.noise_std(sound_grey)
    noise = np.sqrt(noise * noise + _ROUNDING_VARIANCE)
    shown = np.abs(np.clip(grey, 0.0, FULL_SCALE) - np.clip(sound_grey, 0.0, FULL_SCALE))
    shown /= noise
    margin = int(np.ceil(_VISIBLE_MARGIN_MM / pixel_pitch_mm))
    visibilities = []
    for flaw in flaws:
        x0, y0, x1, y1 = flaw.box_xyxy
        around = slice(max(0, y0 - margin), y1 + margin), slice(max(0, x0 - margin), x1 + margin)
        change = signal[around] / sound_signal[around] - 1.0
        visibilities.append(
            Visibility(
                contrast=float(change.flat[np.argmax(np.abs(change))]),
                cnr=float(np.max(shown[around])),
            )
        )
    return detector.read_out(grey, rng), visibilities
