"""The sample: simulated films with their truth in COCO, written as one data set."""

import json
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import UInt16
from tqdm import tqdm

from defects_in_welds.output_folder import replaced_folder
from defects_in_welds.params import ParamsError, SimulateParams
from defects_in_welds.simulation.flaws import FLAW_KINDS, FlawBody
from defects_in_welds.simulation.imaging import expose
from defects_in_welds.simulation.weld import draw_weld, section_of
from defects_in_welds.taxonomy import iso_6520_1_number

# Streams of random numbers that must not follow from one another.
_WELD_STREAM, _FILM_STREAM = 0, 1

_DESCRIPTION = "Simulated radiographs of butt welds"
_DEFECT_FREE_SHARE = 0.1
_MOST_FLAWS = {"gas pore": 8, "crack": 4, "lack of penetration": 4, "slag inclusion": 5}
_LEAST_CONTRAST_MM = 0.15


def simulate_film(params: SimulateParams, film: int) -> tuple[UInt16[np.ndarray, "height width"], list[FlawBody]]:
    """Simulate one film of the sample.

    Args:
        params: Size and seed.
        film: Number of the film, from 0.

    Returns:
        Grey levels, and the flaws in drawing order; bodies do not overlap.
    """
    weld_rng = np.random.default_rng([params.seed, _WELD_STREAM, film // params.films_per_weld])
    rng = np.random.default_rng([params.seed, _FILM_STREAM, film])
    section = section_of(draw_weld(weld_rng), rng, (params.height_px, params.width_px), params.pixel_pitch_mm)
    flaws: list[FlawBody] = []
    if rng.random() >= _DEFECT_FREE_SHARE:
        taken = np.zeros(section.thickness_mm.shape, dtype=bool)
        for kind, draw in FLAW_KINDS.items():
            for _ in range(int(rng.integers(0, _MOST_FLAWS[kind], endpoint=True))):
                flaw = draw(rng, section, params.pixel_pitch_mm)
                shaded = flaw.chord_mm > _LEAST_CONTRAST_MM
                if shaded.any() and not (flaw.chord_mm > 0)[taken].any():
                    flaws.append(flaw)
                    x0, y0, x1, y1 = flaw.box_xyxy
                    gap = int(0.8 / params.pixel_pitch_mm)
                    taken[max(0, y0 - gap) : y1 + gap, max(0, x0 - gap) : x1 + gap] = True
    return expose(section, flaws, rng, params.pixel_pitch_mm), flaws


def simulate_dataset(params: SimulateParams, out_dir: Path) -> None:
    """Write a data set of simulated films: ``images/*.tiff`` and ``annotations.json`` (COCO).

    The same parameters give the same bytes on every CPU.

    Args:
        params: Number of films, size and seed.
        out_dir: Folder to write; it must not exist yet, or hold nothing but an earlier simulation.

    Raises:
        ParamsError: If the folder holds something else.
    """
    _require_free(out_dir)
    class_ids = {name: number for number, name in enumerate(FLAW_KINDS, start=1)}
    images, annotations = [], []
    with replaced_folder(out_dir) as folder:
        (folder / "images").mkdir()
        for film in tqdm(range(params.films), desc="simulate", unit="film"):
            pixels, flaws = simulate_film(params, film)
            weld, section = divmod(film, params.films_per_weld)
            name = f"weld_{weld + 1:03d}_film_{section + 1}.tiff"
            _write_tiff(folder / "images" / name, pixels, params.pixel_pitch_mm)
            images.append(
                {
                    "id": film + 1,
                    "file_name": f"images/{name}",
                    "height": params.height_px,
                    "width": params.width_px,
                    "pixel_pitch_mm": params.pixel_pitch_mm,
                    "weld": f"weld_{weld + 1:03d}",
                }
            )
            annotations += [_annotation(flaw, film + 1, class_ids[flaw.defect_class]) for flaw in flaws]
        truth = {
            "info": {"description": _DESCRIPTION, "seed": params.seed},
            "images": images,
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)],
            "categories": [
                {"id": number, "name": name, "iso_6520_1": iso_6520_1_number(name)}
                for name, number in class_ids.items()
            ],
        }
        (folder / "annotations.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8", newline="\n")


def _annotation(flaw: FlawBody, image_id: int, category_id: int) -> dict[str, object]:
    x0, y0, x1, y1 = flaw.box_xyxy
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": flaw.area_px,
        "iscrowd": 0,
        "length_mm": round(flaw.length_mm, 3),
        "width_mm": round(flaw.width_mm, 3),
        "height_mm": round(flaw.height_mm, 3),
    }


def _write_tiff(path: Path, pixels: UInt16[np.ndarray, "height width"], pixel_pitch_mm: float) -> None:
    pixels_per_cm = round(10_000 / pixel_pitch_mm)
    tifffile.imwrite(
        path,
        pixels,
        byteorder="<",
        photometric="minisblack",
        resolution=((pixels_per_cm, 1000), (pixels_per_cm, 1000)),
        resolutionunit="CENTIMETER",
        software=False,
        metadata=None,
    )


def _require_free(folder: Path) -> None:
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if names <= {"images", "annotations.json"}:
        annotations = folder / "annotations.json"
        if not names or (annotations.is_file() and _DESCRIPTION in annotations.read_text(encoding="utf-8")[:200]):
            return
    raise ParamsError(
        f"{folder} holds data that was not simulated here; move it away or name another folder with --out"
    )
