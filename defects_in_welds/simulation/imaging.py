"""From steel along the beam to grey levels: attenuation, unsharpness, quantum noise, film-like polarity."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt16

from defects_in_welds.simulation.exact_math import blur, exp, normal_noise, uniform
from defects_in_welds.simulation.flaws import GAS, SLAG, FlawBody
from defects_in_welds.simulation.weld import WeldSection

# Linear attenuation per mm at 150 keV. Iron: mass attenuation 0.1964 cm2/g, density 7.874 g/cm3 (Hubbell and Seltzer,
# NISTIR 5632). Slag: the value of silica, 0.14 cm2/g, at 3 g/cm3.
STEEL_PER_MM = 0.1546
ATTENUATION_PER_MM = {GAS: 0.0, SLAG: 0.042}

QUANTA_PER_PIXEL = 20_000.0
UNSHARPNESS_SIGMA_MM = 0.1
FULL_SCALE = 65535


def expose(
    section: WeldSection, flaws: Sequence[FlawBody], rng: np.random.Generator, pixel_pitch_mm: float
) -> UInt16[np.ndarray, "height width"]:
    """Take a radiograph by the Beer-Lambert law, as a linear detector shown like a film: more steel is lighter.

    Args:
        section: The sound weld.
        flaws: The bodies in it; where two overlap, both take away steel.
        rng: Source of field and noise.
        pixel_pitch_mm: Pixel pitch, in mm.

    Returns:
        16-bit grey levels.
    """
    path = STEEL_PER_MM * section.thickness_mm
    for flaw in flaws:
        path = path - (STEEL_PER_MM - ATTENUATION_PER_MM[flaw.material]) * flaw.chord_mm
    relative = exp(STEEL_PER_MM * section.weld.plate_mm - path) * _field(section.thickness_mm.shape, rng)
    quanta = QUANTA_PER_PIXEL * blur(relative, UNSHARPNESS_SIGMA_MM / pixel_pitch_mm)
    # With so many quanta a Poisson distribution is normal.
    counted = quanta + np.sqrt(quanta) * normal_noise(rng, quanta.shape)
    grey = FULL_SCALE * (1.0 - counted / (1.6 * QUANTA_PER_PIXEL))
    return np.clip(np.rint(grey), 0, FULL_SCALE).astype(np.uint16)


def _field(image_hw: tuple[int, ...], rng: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """The slow change of intensity over the film, as from the heel effect and the distance to the source."""
    y = np.linspace(-1, 1, image_hw[0])[:, None]
    x = np.linspace(-1, 1, image_hw[1])[None, :]
    tilt = uniform(rng, -0.05, 0.05) * x + uniform(rng, -0.03, 0.03) * y
    return (1.0 + tilt - uniform(rng, 0.0, 0.05) * x * x) * uniform(rng, 0.9, 1.1)
