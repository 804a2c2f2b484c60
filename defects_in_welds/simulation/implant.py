"""Virtual flaws: a data set of real films with simulated flaws in them.

The same films and parameters give the same bytes on one computer; what is measured on the films may differ in the last
bit between CPUs.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from defects_in_welds.data.annotation import AnnotatedRadiograph, Annotation, DataError
from defects_in_welds.data.annotation_formats import FORMATS, read_dataset
from defects_in_welds.data.annotation_formats.folders import list_images, relative_name
from defects_in_welds.data.dataset_checks import is_corrupting
from defects_in_welds.data.image_reading import read_radiograph
from defects_in_welds.data.splitting import weld_of
from defects_in_welds.output_folder import replaced_folder
from defects_in_welds.params import ParamsError, SimulateParams
from defects_in_welds.simulation.dataset import IMAGES_NAME, require_free, write_tiff
from defects_in_welds.simulation.film_measurement import edge_blur_mm, find_band, measure_noise
from defects_in_welds.simulation.objects import Box
from defects_in_welds.simulation.scene import drawn_classes
from defects_in_welds.simulation.truth import TRUTH_NAME, Entry, flaw_entry, write_truth
from defects_in_welds.simulation.virtual_flaws import Exposure, ImplantedFilm, RealFilm, implant_film

_DESCRIPTION = "Virtual flaws in real radiographs of welds"

_log = logging.getLogger(__name__)


def implant_dataset(
    params: SimulateParams,
    films_dir: Path,
    out_dir: Path,
    pixel_pitch_mm: float | None,
    copies: int = 1,
    *,
    single_class: str | None = None,
    weld_pattern: str | None = None,
) -> None:
    """Put simulated flaws into the films of a data set: ``images/*.tiff`` and ``annotations.json`` (COCO).

    Flaws that are marked on the films stay in the truth, and the virtual ones keep clear of them; films without marks
    count as free of defects, as do those of a folder with nothing but images. All copies of a film belong to one weld.

    Args:
        params: Beam, weld and flaws that are drawn.
        films_dir: The data set, in any of the formats that ``prepare`` reads.
        out_dir: Folder to write; it must not exist yet, or hold nothing but earlier virtual flaws.
        pixel_pitch_mm: Pixel pitch of all films, in mm; None takes what the data set or the files say.
        copies: Films that are made of each, with other flaws.
        single_class: One name for all virtual flaws; None names each by its kind.
        weld_pattern: Where the data set does not name the welds: a regular expression whose first group, found in an
            image's name, names its weld, as ``prepare.weld_pattern``.

    Raises:
        ParamsError: If the output folder holds something else, no class of flaws is drawn, or copies is below 1.
        DataError: If the data set is damaged, the pixel pitch of a film is not known, or no film shows a weld.
    """
    if copies < 1:
        raise ParamsError(f"copies is {copies}; allowed: 1 or more")
    require_free(out_dir, _DESCRIPTION)
    classes = drawn_classes(params.flaws)
    source_classes, films = _read_films(films_dir)
    names = dict.fromkeys([*source_classes, *(classes if single_class is None else [single_class])])
    class_ids = {name: number for number, name in enumerate(names, start=1)}
    with replaced_folder(out_dir) as folder:
        (folder / IMAGES_NAME).mkdir()
        written: list[tuple[Entry, list[Entry]]] = []
        for number, film in enumerate(tqdm(films, "implant", unit="film")):
            real = measure_film(film, pixel_pitch_mm)
            if real is None:
                _log.info("%s: left out: no weld found, a band that is lighter than the plate", film.name)
                continue
            marked = [_marked_entry(annotation, class_ids) for annotation in film.annotations]
            boxes = [_whole_pixels(annotation) for annotation in film.annotations]
            for copy in range(copies):
                seed = [params.seed, number, copy]
                implanted = implant_film(real, boxes, params, np.random.default_rng(seed))
                file_name = f"{IMAGES_NAME}/film_{number + 1:03d}_copy_{copy + 1}.tiff"
                write_tiff(folder / file_name, implanted.pixels, real.pixel_pitch_mm)
                image = _image_entry(file_name, film, weld_of(film, weld_pattern), real, implanted.exposure, seed)
                flaws = _flaw_entries(implanted, params.visible_cnr, class_ids, single_class)
                written.append((image, marked + flaws))
        if not written:
            raise DataError(f"{films_dir}: no weld found on any film; a weld must be lighter than its plate")
        write_truth(folder / TRUTH_NAME, {"description": _DESCRIPTION, "seed": params.seed}, written, class_ids)


def measure_film(film: AnnotatedRadiograph, pixel_pitch_mm: float | None) -> RealFilm | None:
    """Read a film and measure what the virtual flaws need.

    Args:
        film: The film.
        pixel_pitch_mm: Pixel pitch, in mm; None takes what the data set or the file says.

    Returns:
        None where no weld is found.

    Raises:
        DataError: If the film cannot be read, or its pixel pitch is not known.
    """
    pitch_mm = film.pixel_pitch_mm if pixel_pitch_mm is None else pixel_pitch_mm
    radiograph = read_radiograph(film.image_path, pixel_pitch_mm=pitch_mm)
    if radiograph.pixel_pitch_mm is None:
        raise DataError(
            f"{film.image_path}: no pixel pitch in the file or its annotations, and flaws have sizes in mm; give it "
            "with prepare.pixel_pitch_mm=0.0403 (so much in GDXray's welds)"
        )
    noise = measure_noise(radiograph.pixels)
    band = find_band(radiograph.pixels, noise.level, radiograph.pixel_pitch_mm)
    if band is None:
        return None
    blur_mm = edge_blur_mm(radiograph.pixels, noise.level, radiograph.pixel_pitch_mm)
    return RealFilm(radiograph, radiograph.pixel_pitch_mm, band, noise, blur_mm)


def _read_films(films_dir: Path) -> tuple[tuple[str, ...], tuple[AnnotatedRadiograph, ...]]:
    """Read the classes and films of a data set; a folder with images alone holds films that are free of defects.

    Raises:
        DataError: If there are none, or something is wrong with the annotations: a flaw could be missing among them.
    """
    if films_dir.is_dir() and not any(known.recognises(films_dir) for known in FORMATS.values()):
        images = list_images(films_dir)
        if images:
            return (), tuple(AnnotatedRadiograph(image, relative_name(image, films_dir), ()) for image in images)
    dataset = read_dataset(films_dir)
    wrong = [finding for finding in dataset.findings if is_corrupting(finding.kind)]
    if wrong:
        place = wrong[0].path if wrong[0].line is None else f"{wrong[0].path}:{wrong[0].line}"
        more = f" ({len(wrong) - 1} more like this)" if len(wrong) > 1 else ""
        raise DataError(f"{films_dir}: {place}: {wrong[0].message}{more}; correct it, for a flaw may be missing")
    return dataset.defect_classes, dataset.radiographs


def _image_entry(
    file_name: str, film: AnnotatedRadiograph, weld: str, real: RealFilm, exposure: Exposure, seed: Sequence[int]
) -> Entry:
    height, width = real.radiograph.image_hw
    entry: Entry = {
        "file_name": file_name,
        "height": height,
        "width": width,
        "pixel_pitch_mm": real.pixel_pitch_mm,
        "weld": weld,
        "source": film.name,
        "seed": list(seed),
        "scene": {
            "material": exposure.beam.material,
            "plate_mm": round(exposure.section.weld.plate_mm, 3),
            "tube_kv": exposure.beam.tube_kv,
            "scatter_ratio": round(exposure.beam.scatter_ratio, 4),
            "blur_mm": round(exposure.blur_px * real.pixel_pitch_mm, 5),
            "white_level": round(exposure.white_level, 2),
            "noise_level": round(real.noise.level, 3),
        },
    }
    if film.split is not None:
        entry["split"] = film.split.value
    return entry


def _marked_entry(annotation: Annotation, class_ids: Mapping[str, int]) -> Entry:
    """Describe a flaw that is marked on the film, whose size in mm nobody knows."""
    x0, y0, x1, y1 = annotation.box_xyxy
    return {
        "category_id": class_ids[annotation.defect_class],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "difficult": int(annotation.difficult),
        "virtual": 0,
    }


def _whole_pixels(annotation: Annotation) -> Box:
    x0, y0, x1, y1 = annotation.box_xyxy
    return math.floor(min(x0, x1)), math.floor(min(y0, y1)), math.ceil(max(x0, x1)), math.ceil(max(y0, y1))


def _flaw_entries(
    film: ImplantedFilm, visible_cnr: float, class_ids: Mapping[str, int], single_class: str | None
) -> list[Entry]:
    height, width = film.pixels.shape
    entries = []
    for flaw, visibility in zip(film.flaws, film.visibilities, strict=True):
        # A single class takes the place of each flaw's own; the number of ISO 6520-1 still tells the kind.
        ids = class_ids if single_class is None else {flaw.defect_class: class_ids[single_class]}
        entries.append({**flaw_entry(flaw, visibility, visible_cnr, (height, width), ids), "virtual": 1})
    return entries
