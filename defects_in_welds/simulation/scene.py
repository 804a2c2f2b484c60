"""One simulated film: what is drawn for it, and its radiograph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt16

from defects_in_welds.params import ParamsError
from defects_in_welds.params.simulate import FlawsParams, SimulateParams
from defects_in_welds.simulation.beam import Beam, draw_beam
from defects_in_welds.simulation.bodies import FlawBody
from defects_in_welds.simulation.digital_detector import DigitalDetector, draw_digital_detector
from defects_in_welds.simulation.film import Film, draw_film
from defects_in_welds.simulation.film_edges import draw_film_edges
from defects_in_welds.simulation.flaws import CLASS_NAMES, FLAW_KINDS
from defects_in_welds.simulation.imaging import Visibility, expose
from defects_in_welds.simulation.objects import AddedBody, Box, count_overlaps, draw_objects
from defects_in_welds.simulation.weld import Weld, WeldSection, draw_weld
from defects_in_welds.simulation.weld_section import section_of

# Streams of random numbers that must not follow from one another.
_WELD_STREAM, _FILM_STREAM = 0, 1

_FLAW_GAP_MM = 0.8


@dataclass(frozen=True, eq=False)
class SimulatedFilm:
    """A radiograph with its truth.

    Attributes:
        pixels: 16-bit grey levels.
        flaws: The flaws in drawing order; their boxes do not overlap.
        visibilities: How each flaw shows.
        scene: How the radiograph was taken, in plain values for the truth's file.
    """

    pixels: UInt16[np.ndarray, "height width"]
    flaws: Sequence[FlawBody]
    visibilities: Sequence[Visibility]
    scene: dict[str, object]


def drawn_classes(flaws: FlawsParams) -> list[str]:
    """Name the classes of flaws that the parameters put on films, in the order of their numbers in ISO 6520-1.

    Raises:
        ParamsError: If there is none.
    """
    classes = [CLASS_NAMES[kind] for kind in FLAW_KINDS if getattr(flaws, kind).most_per_film > 0]
    if not classes:
        raise ParamsError("params: simulate.flaws draws no flaw; give a class a most_per_film above 0")
    return classes


def simulate_film(params: SimulateParams, film: int) -> SimulatedFilm:
    """Simulate one film.

    Args:
        params: What is simulated.
        film: Number of the film, from 0. Films of one weld share the weld's dimensions.
    """
    pitch, image_hw = params.pixel_pitch_mm, (params.height_px, params.width_px)
    weld = draw_weld(np.random.default_rng([params.seed, _WELD_STREAM, film // params.films_per_weld]), params.weld)
    rng = np.random.default_rng([params.seed, _FILM_STREAM, film])
    section = section_of(weld, rng, image_hw, pitch)
    flaws = draw_flaws(rng, section, params.flaws) if rng.random() >= params.defect_free_share else []
    boxes = [flaw.box_xyxy for flaw in flaws]
    objects = draw_objects(rng, section, params.objects, boxes)
    beam = draw_beam(rng, params.beam, weld.material, weld.nominal_path_mm, weld.plate_mm)
    detector = draw_detector(rng, params, beam, [*boxes, *(lying.box_xyxy for lying in objects)])
    path_mm = section.thickness_mm.copy()
    for lying in objects:
        rows, columns = lying.thickness_mm.shape
        place = path_mm[lying.top_px : lying.top_px + rows, lying.left_px : lying.left_px + columns]
        place += beam.equivalent_mm(lying.material) * lying.thickness_mm
    pixels, visibilities = expose(path_mm, flaws, beam, detector, rng, pitch)
    return SimulatedFilm(pixels, flaws, visibilities, _describe(weld, beam, detector, objects))


def draw_flaws(
    rng: np.random.Generator, section: WeldSection, params: FlawsParams, taken_xyxy: Sequence[Box] = ()
) -> list[FlawBody]:
    """Draw the flaws of a film; one that would come too near to another is left out.

    Args:
        rng: Source of the draws.
        section: The weld.
        params: Number and sizes of each class.
        taken_xyxy: Half-open boxes to keep clear, in pixels.
    """
    gap = int(np.ceil(_FLAW_GAP_MM / section.pixel_pitch_mm))
    counts = [int(rng.integers(0, getattr(params, kind).most_per_film, endpoint=True)) for kind in FLAW_KINDS]
    kinds = [kind for kind, count in zip(FLAW_KINDS, counts, strict=True) for _ in range(count)]
    taken = list(taken_xyxy)
    flaws = []
    for place in rng.permutation(len(kinds)):  # no kind finds the weld full because it comes last
        kind = kinds[place]
        flaw = FLAW_KINDS[kind](rng, section, getattr(params, kind))
        if flaw is None or count_overlaps(flaw.box_xyxy, taken, gap):
            continue
        taken.append(flaw.box_xyxy)
        flaws.append(flaw)
    return flaws


def draw_detector(
    rng: np.random.Generator, params: SimulateParams, beam: Beam, taken_xyxy: Sequence[Box]
) -> DigitalDetector | Film:
    """Draw a film, or a digital detector array, and its exposure.

    Args:
        rng: Source of the draws.
        params: Their ranges.
        beam: What exposes it.
        taken_xyxy: Half-open boxes of flaws and objects, in pixels, which a film's edges leave clear.
    """
    image_hw = (params.height_px, params.width_px)
    # A detector's unsharpness, grain and marks have their sizes in its own plane, where the object is magnified.
    pitch = params.pixel_pitch_mm * beam.magnification
    plate_signal = float(beam.transmit(np.array(beam.nominal_path_mm))) * (1.0 + beam.scatter_ratio)
    is_film = rng.random() < params.film_share
    has_edges = rng.random() < params.objects.film_edges
    if is_film:
        edges = draw_film_edges(rng, image_hw, pitch, taken_xyxy) if has_edges else []
        return draw_film(
            rng, params.film, image_hw=image_hw, pixel_pitch_mm=pitch, plate_signal=plate_signal, edges=edges
        )
    return draw_digital_detector(
        rng,
        params.digital,
        pixel_pitch_mm=pitch,
        plate_signal=plate_signal,
        quanta_per_mm2_mas=beam.quanta_per_mm2(1.0) / (beam.magnification * beam.magnification),
    )


def _describe(
    weld: Weld, beam: Beam, detector: DigitalDetector | Film, objects: Sequence[AddedBody]
) -> dict[str, object]:
    """Put down how a radiograph was taken."""
    return {
        "material": weld.material,
        "plate_mm": round(weld.plate_mm, 3),
        "pipe_diameter_mm": None if weld.pipe_diameter_mm is None else round(weld.pipe_diameter_mm, 1),
        "preparation": weld.preparation,
        "tube_kv": beam.tube_kv,
        "optical_depth": round(beam.optical_depth, 3),
        "source_to_object_mm": round(beam.source_to_object_mm, 1),
        "geometric_unsharpness_mm": round(beam.unsharpness_mm, 4),
        "scatter_ratio": round(beam.scatter_ratio, 3),
        "detector": _describe_detector(detector),
        "objects": [
            {
                "name": lying.name,
                "label": lying.label,
                "bbox": [lying.left_px, lying.top_px, *reversed(lying.thickness_mm.shape)],
                "diameter_mm": lying.diameter_mm,
            }
            for lying in objects
        ],
    }


def _describe_detector(detector: DigitalDetector | Film) -> dict[str, object]:
    common = {"unsharpness_mm": round(detector.unsharpness_mm, 4)}
    if isinstance(detector, DigitalDetector):
        return {"kind": "digital", **common, "milliampere_seconds": round(detector.milliampere_seconds, 2)}
    return {
        "kind": "film",
        **common,
        "density": round(detector.density, 3),
        "granularity": round(detector.granularity, 4),
        "grain_mm": round(detector.grain_mm, 4),
        "density_range": round(detector.density_range, 3),
        "edges": [
            {"side": edge.side, "bbox": [edge.left_px, edge.top_px, *reversed(edge.film_share.shape)]}
            for edge in detector.edges
        ],
    }
