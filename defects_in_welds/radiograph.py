"""A radiograph in memory."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8, UInt16


@dataclass(frozen=True)
class Radiograph:
    """Pixels of one film or detector image, without loss.

    Attributes:
        pixels: Grey levels, higher is lighter on the screen; 8-bit sources as uint8, all deeper ones as uint16.
        bit_depth: Number of bits that the grey levels use: full scale is ``2**bit_depth - 1``.
        pixel_pitch_mm: Distance of neighbouring pixels, in mm; None where the source does not say.
        source: The file, as the user named it.
        highest_stored_level: Of a 16-bit file that may hold fewer bits without saying so; None where the bit depth is
            said, by the user or by the file.
    """

    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]
    bit_depth: int
    pixel_pitch_mm: float | None
    source: str
    highest_stored_level: int | None = None

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        height, width = self.pixels.shape
        return height, width
