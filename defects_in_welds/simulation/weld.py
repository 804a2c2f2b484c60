"""The sound weld: its dimensions, as they are drawn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import WeldParams
from defects_in_welds.simulation.exact_math import (
    log_uniform_in,
    sin_cos_deg,
    uniform,
    uniform_in,
)

# A groove keeps a root face, or the arc would burn through; thin plates a smaller one (ISO 9692-1: up to 2 mm).
ROOT_FACE_MM = 1.5
ROOT_FACE_SHARE = 0.25
# Above this plate thickness a V takes so much filler that both sides are welded (ISO 9692-1: a double V from 10 mm).
THICK_PLATE_MM = 20.0
FULLNESS = (0.1, 0.9)
TOE_RADIUS_MM = (0.6, 3.0)  # as welded; Hobbacher 2016, IIW recommendations for fatigue design, works with 1 mm


@dataclass(frozen=True)
class Weld:
    """A butt weld that runs from left to right, in plate or around a pipe.

    A pipe's axis lies across the weld's run. The beam crosses both its walls, and the wall on the detector's side
    bears the weld: a double wall single image (ISO 17636).

    Attributes:
        material: Base metal.
        plate_mm: Thickness of the plate or of the pipe's wall.
        pipe_diameter_mm: Outer diameter of the pipe; None for a plate.
        preparation: V (welded from one side) or X (from both).
        groove_tan: Tangent of half the groove's included angle.
        narrowest_mm: Width of the weld metal where it is narrowest: in a V at the bottom, in an X in the middle.
        cap_width_mm: Width of the cap.
        cap_height_mm: Height of the cap over the plate.
        root_width_mm: Width of the root bead, in an X of the second cap.
        root_height_mm: Height of the root bead below the plate, in an X of the second cap.
        ripple_mm: Mean distance of neighbouring ripples.
        ripple_height: Largest height of a ripple, as a share of the bead's height.
        weaving_mm: How far the weld's middle wanders to either side.
        misalignment_mm: How much deeper the lower surface lies at the film's bottom than at its top; either sign.
        thickness_step_mm: How much thicker the plate is at the film's bottom than at its top; either sign.
        unevenness: Slow relative change of width and height along the weld.
        fullness: The cap's shape in cross-section: 0 for a parabola, 1 for one that is flat in the middle.
        toe_radius_mm: Radius of the fillet between cap and plate.
        spatter_per_100_mm: Mean number of spatter drops on 100 mm of weld.
    """

    material: str
    plate_mm: float
    pipe_diameter_mm: float | None
    preparation: str
    groove_tan: float
    narrowest_mm: float
    cap_width_mm: float
    cap_height_mm: float
    root_width_mm: float
    root_height_mm: float
    ripple_mm: float
    ripple_height: float
    weaving_mm: float
    misalignment_mm: float
    thickness_step_mm: float
    unevenness: float
    fullness: float
    toe_radius_mm: float
    spatter_per_100_mm: float

    @property
    def nominal_path_mm(self) -> float:
        """Base metal along the beam through the sound plate, or in the middle of a pipe through both its walls."""
        return self.plate_mm if self.pipe_diameter_mm is None else 2.0 * self.plate_mm

    def fused_half_width_mm(self, depth_mm: float) -> float:
        """Give half the width of the weld metal at a depth.

        Args:
            depth_mm: Depth below the surface that bears the cap, in mm; beyond the plate's surfaces the width is that
                at the surface.
        """
        return _fused_half_width(self.plate_mm, self.preparation, self.groove_tan, self.narrowest_mm, depth_mm)


@dataclass(frozen=True)
class WeldSection:
    """One film's length of a weld, in the plane of the object.

    Attributes:
        weld: The weld.
        pixel_pitch_mm: Pixel pitch.
        thickness_mm: Base metal along the beam.
        centre_mm: Distance of the cap's middle from the film's upper edge at each column.
        cap_half_mm: Half the width of the cap at each column.
        root_half_mm: Half the width of the root bead, in an X of the second cap, at each column.
    """

    weld: Weld
    pixel_pitch_mm: float
    thickness_mm: Float[np.ndarray, "height width"]
    centre_mm: Float[np.ndarray, " width"]
    cap_half_mm: Float[np.ndarray, " width"]
    root_half_mm: Float[np.ndarray, " width"]


def draw_weld(rng: np.random.Generator, params: WeldParams) -> Weld:
    """Draw a weld.

    Pipes are welded from outside and thick plates from both sides, where the parameters offer that preparation. A
    pipe's wall is at most a quarter of its diameter.

    Args:
        rng: Source of the draw.
        params: Ranges to draw from.
    """
    plate_mm = uniform_in(rng, params.plate_mm)
    is_pipe = rng.random() < params.pipe_share
    diameter_mm = uniform_in(rng, params.pipe_diameter_mm)
    if is_pipe:
        plate_mm = min(plate_mm, diameter_mm / 4.0)
    preparation = params.preparations[int(rng.integers(len(params.preparations)))]
    usual = "V" if is_pipe else "X" if plate_mm > THICK_PLATE_MM else preparation
    preparation = usual if usual in params.preparations else preparation

    sine, cosine = sin_cos_deg(uniform_in(rng, params.groove_angle_deg) / 2.0)
    groove_tan, narrowest_mm = sine / cosine, uniform_in(rng, params.root_width_mm)
    mouth_mm = 2.0 * _fused_half_width(plate_mm, preparation, groove_tan, narrowest_mm, 0.0)
    root_width_mm, root_height_mm = narrowest_mm, uniform_in(rng, params.root_height_mm)
    if preparation == "X":
        root_width_mm, root_height_mm = (
            mouth_mm + uniform_in(rng, params.cap_width_mm),
            uniform_in(rng, params.cap_height_mm),
        )
    misalignment_mm = uniform_in(rng, params.misalignment_mm) * (1.0 if rng.random() < 0.5 else -1.0)
    return Weld(
        material=params.materials[int(rng.integers(len(params.materials)))],
        plate_mm=plate_mm,
        pipe_diameter_mm=diameter_mm if is_pipe else None,
        preparation=preparation,
        groove_tan=groove_tan,
        narrowest_mm=narrowest_mm,
        cap_width_mm=mouth_mm + uniform_in(rng, params.cap_width_mm),
        cap_height_mm=uniform_in(rng, params.cap_height_mm),
        root_width_mm=root_width_mm,
        root_height_mm=root_height_mm,
        ripple_mm=uniform_in(rng, params.ripple_mm),
        ripple_height=uniform_in(rng, params.ripple_height),
        weaving_mm=uniform_in(rng, params.weaving_mm),
        misalignment_mm=misalignment_mm,
        # Most of a step between lower surfaces is a shift of whole plates, a little is a difference of thickness.
        thickness_step_mm=misalignment_mm * uniform(rng, -0.3, 0.3),
        unevenness=uniform_in(rng, params.unevenness),
        fullness=uniform_in(rng, FULLNESS),
        toe_radius_mm=log_uniform_in(rng, TOE_RADIUS_MM),
        spatter_per_100_mm=uniform_in(rng, params.spatter_per_100_mm),
    )


def _fused_half_width(
    plate_mm: float, preparation: str, groove_tan: float, narrowest_mm: float, depth_mm: float
) -> float:
    """Give half the width of a groove: from a root face in the lower surface (V) or in the middle (X), it widens."""
    face_mm = min(ROOT_FACE_MM, ROOT_FACE_SHARE * plate_mm)
    depth_mm = min(max(depth_mm, 0.0), plate_mm)
    above_face_mm = plate_mm - face_mm - depth_mm
    if preparation == "X":
        above_face_mm = abs(depth_mm - plate_mm / 2.0) - face_mm / 2.0
    return narrowest_mm / 2.0 + groove_tan * max(0.0, above_face_mm)
