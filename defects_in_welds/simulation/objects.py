"""What lies on the plate and is no flaw: lead letters, arrows, image quality indicators, with their truth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import ObjectsParams
from defects_in_welds.simulation.exact_math import uniform
from defects_in_welds.simulation.image_quality_indicators import (
    LAST_TUNGSTEN_PAIR,
    WIRE_LENGTHS_MM,
    draw_duplex_wires,
    draw_wire_set,
    wire_set_for,
)
from defects_in_welds.simulation.lead_letters import Lettering, draw_plate_text, draw_text
from defects_in_welds.simulation.weld import WeldSection

Box = tuple[int, int, int, int]
Patch = Float[np.ndarray, "rows columns"]

_TRIES = 40
_METAL_SYMBOLS = {"steel": "FE", "stainless steel": "FE", "aluminium": "AL", "titanium": "TI"}
_MARKING = Lettering(height_mm=5.0, width_mm=2.2, stroke_mm=0.8, pitch_mm=3.4, lead_mm=1.0, disorder_deg=0.5)
_INITIALS = "ABCDEFHKLNPRSTUVWX"


@dataclass(frozen=True, eq=False)
class AddedBody:
    """Material that is added to the beam's path.

    Attributes:
        name: What it is.
        label: What it says, or its number: "R 12", "W10", "D7".
        material: Metal (the base metal), lead, tungsten or platinum.
        top_px: Row of the patch on the film; the patch lies wholly inside.
        left_px: Column of the patch on the film.
        thickness_mm: Length of the beam inside the body, in mean over each pixel.
        diameter_mm: Diameter of a wire; None where it is none.
        angle_deg: Angle of a wire to the pixels' columns; 0 where it is none.
    """

    name: str
    label: str
    material: str
    top_px: int
    left_px: int
    thickness_mm: Patch
    diameter_mm: float | None = None
    angle_deg: float = 0.0

    @property
    def box_xyxy(self) -> Box:
        """Half-open box of the patch, in pixels."""
        rows, columns = self.thickness_mm.shape
        return self.left_px, self.top_px, self.left_px + columns, self.top_px + rows


def draw_objects(
    rng: np.random.Generator, section: WeldSection, params: ObjectsParams, flaws_xyxy: Sequence[Box]
) -> list[AddedBody]:
    """Draw what lies on a film's length of weld, each kind on its share of films; what has no room is left out.

    Args:
        rng: Source of the draws.
        section: The weld.
        params: The shares.
        flaws_xyxy: Half-open boxes of the flaws, in pixels, which are kept clear where that is possible.
    """
    kinds: list[tuple[float, Callable[[np.random.Generator, WeldSection, Sequence[Box]], list[AddedBody]]]] = [
        (params.wire_iqi, draw_wire_iqi),
        (params.duplex_wire, draw_duplex_wire),
        (params.lead_letters, draw_lead_letters),
    ]
    bodies: list[AddedBody] = []
    for share, draw in kinds:
        if rng.random() < share:
            bodies += draw(rng, section, [*flaws_xyxy, *(body.box_xyxy for body in bodies)])
    return bodies


def draw_lead_letters(rng: np.random.Generator, section: WeldSection, taken_xyxy: Sequence[Box]) -> list[AddedBody]:
    """Draw the weld's name and, on some films, a number of its length and an arrow, beside the weld.

    Args:
        rng: Source of the draws.
        section: The weld.
        taken_xyxy: Half-open boxes to keep clear, in pixels.
    """
    initials = "".join(_INITIALS[int(rng.integers(0, len(_INITIALS)))] for _ in range(int(rng.integers(1, 4))))
    texts = [f"{initials} {int(rng.integers(1, 1000))}"]
    texts += [str(5 * int(rng.integers(0, 41)))] if rng.random() < 0.6 else []
    texts += ["^"] if rng.random() < 0.4 else []
    bodies: list[AddedBody] = []
    for text in texts:
        height_mm = uniform(rng, 7.0, 12.0)
        stroke_mm = height_mm * uniform(rng, 0.12, 0.18)
        lettering = Lettering(
            height_mm=height_mm - stroke_mm,
            width_mm=height_mm * uniform(rng, 0.38, 0.5),
            stroke_mm=stroke_mm,
            pitch_mm=height_mm * uniform(rng, 0.7, 1.0),
            lead_mm=uniform(rng, 1.5, 2.0),
            disorder_deg=3.0,
        )
        cut_out = text.isdigit() and rng.random() < 0.4
        draw = draw_plate_text if cut_out else draw_text
        lead = draw(rng, text, lettering, section.pixel_pitch_mm)
        place = _find_place(rng, section, lead.shape, [*taken_xyxy, *(body.box_xyxy for body in bodies)])
        if place is not None:
            above = place[0] < section.centre_mm[place[1]] / section.pixel_pitch_mm
            lead = lead[::-1] if text == "^" and above else lead  # an arrow points at the weld
            name = "lead arrow" if text == "^" else "lead letters"
            bodies.append(AddedBody(name, text.replace("^", ""), "lead", *place, lead))
    return bodies


def draw_wire_iqi(rng: np.random.Generator, section: WeldSection, taken_xyxy: Sequence[Box]) -> list[AddedBody]:
    """Draw a wire image quality indicator across the weld, with its marking in lead beside the weld.

    Args:
        rng: Source of the draws.
        section: The weld.
        taken_xyxy: Half-open boxes to keep clear where that is possible, in pixels.

    Returns:
        The marking and seven wires of base metal; none where the film is too small.

    References:
        ISO 19232-1: numbers, diameters, lengths, distance.
        EN ISO 17636-1: the wires lie across the weld; which wire must be seen.
    """
    pitch, (height, width) = section.pixel_pitch_mm, section.thickness_mm.shape
    first = wire_set_for(section.weld.nominal_path_mm)
    label = f"{first} {_METAL_SYMBOLS[section.weld.material]} EN"
    angle_deg = uniform(rng, -2.0, 2.0)
    marking = draw_text(rng, label.replace(" ", ""), _MARKING, pitch)
    # Two rails hold the letters.
    rail_px = int(np.ceil(_MARKING.stroke_mm / pitch))
    marking[:rail_px] = marking[-rail_px:] = _MARKING.lead_mm
    gap = int(np.ceil(0.5 / pitch))
    for length_mm in WIRE_LENGTHS_MM:
        (rows, columns), wires = draw_wire_set(first, length_mm, angle_deg, pitch)
        all_rows, all_columns = rows + gap + marking.shape[0], max(columns, marking.shape[1])
        below = rng.random() < 0.5  # the marking is below the wires
        tops = range(height - all_rows + 1) if all_columns <= width else range(0)
        places = []
        for _ in range(_TRIES if tops else 0):
            top, left = int(rng.integers(0, len(tops))), int(rng.integers(0, width - all_columns + 1))
            box = (left, top, left + all_columns, top + all_rows)
            mark_top = top + rows + gap if below else top
            mark_box = (left, mark_top, left + all_columns, mark_top + marking.shape[0])
            if not _covers_weld(section, mark_box):
                places.append((count_overlaps(box, taken_xyxy), top, left, mark_top))
        if places:
            _, top, left, mark_top = min(places, key=lambda place: place[0])
            wires_top = top if below else top + marking.shape[0] + gap
            bodies = [AddedBody("IQI marking", label, "lead", mark_top, left, marking)]
            bodies += [
                AddedBody(
                    "IQI wire", f"W{wire.number}", "metal", wires_top + wire.top_px, left + wire.left_px,
                    wire.thickness_mm, wire.diameter_mm, angle_deg,
                )
                for wire in wires
            ]  # fmt: skip
            return bodies
    return []


def draw_duplex_wire(rng: np.random.Generator, section: WeldSection, taken_xyxy: Sequence[Box]) -> list[AddedBody]:
    """Draw a duplex wire image quality indicator beside the weld, turned by 2 to 5 degrees as it must be.

    Args:
        rng: Source of the draws.
        section: The weld.
        taken_xyxy: Half-open boxes to keep clear, in pixels.

    Returns:
        Thirteen pairs of wires, of tungsten and platinum; none where the film is too small.

    References:
        ISO 19232-5 and EN ISO 17636-2.
    """
    angle_deg = uniform(rng, 2.0, 5.0) * (1.0 if rng.random() < 0.5 else -1.0)
    frame_hw, pairs = draw_duplex_wires(angle_deg, section.pixel_pitch_mm)
    place = _find_place(rng, section, frame_hw, taken_xyxy)
    if place is None:
        return []
    return [
        AddedBody(
            "duplex wire pair", f"D{pair.number}", "tungsten" if pair.number <= LAST_TUNGSTEN_PAIR else "platinum",
            place[0] + pair.top_px, place[1] + pair.left_px, pair.thickness_mm, pair.diameter_mm, angle_deg,
        )
        for pair in pairs
    ]  # fmt: skip


def _find_place(
    rng: np.random.Generator, section: WeldSection, patch_hw: tuple[int, ...], taken_xyxy: Sequence[Box]
) -> tuple[int, int] | None:
    """Find a place beside the weld, clear of the taken boxes: row and column of the patch; None where none is found."""
    (height, width), (rows, columns) = section.thickness_mm.shape, patch_hw
    if rows > height or columns > width:
        return None
    for _ in range(_TRIES):
        left = int(rng.integers(0, width - columns + 1))
        toes = _toes_px(section, left, left + columns)
        free = [range(0, toes[0] - rows + 1), range(toes[1], height - rows + 1)]
        tops = free[int(rng.integers(0, 2))] or free[0] or free[1]
        if tops:
            top = tops[int(rng.integers(0, len(tops)))]
            if not count_overlaps((left, top, left + columns, top + rows), taken_xyxy):
                return top, left
    return None


def _toes_px(section: WeldSection, left: int, right: int) -> tuple[int, int]:
    """First row of the cap, and the first below it, over some columns."""
    centre, half = section.centre_mm[left:right], section.cap_half_mm[left:right]
    first, last = (centre - half).min() / section.pixel_pitch_mm, (centre + half).max() / section.pixel_pitch_mm
    return int(np.floor(first)), int(np.ceil(last))


def _covers_weld(section: WeldSection, box: Box) -> bool:
    """Tell whether a box reaches into the cap."""
    first, last = _toes_px(section, box[0], box[2])
    return box[1] < last and first < box[3]


def count_overlaps(box: Box, taken_xyxy: Sequence[Box], gap_px: int = 0) -> int:
    """Count the taken boxes that a box overlaps, or comes nearer to than a gap."""
    x0, y0, x1, y1 = box[0] - gap_px, box[1] - gap_px, box[2] + gap_px, box[3] + gap_px
    return sum(x0 < right and left < x1 and y0 < bottom and top < y1 for left, top, right, bottom in taken_xyxy)
