"""A data set of simulated films, written by any number of processes."""

import multiprocessing
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import UInt8, UInt16
from tqdm import tqdm

from defects_in_welds.output_folder import is_free, replaced_folder
from defects_in_welds.params import ParamsError, SimulateParams
from defects_in_welds.simulation.beam import Spectra, learn_spectra, tube_spectrum, tube_voltages
from defects_in_welds.simulation.scene import drawn_classes, simulate_film
from defects_in_welds.simulation.truth import TRUTH_NAME, Entry, flaw_entry, write_truth

IMAGES_NAME = "images"

_DESCRIPTION = "Simulated radiographs of butt welds"


def simulate_dataset(params: SimulateParams, out_dir: Path, workers: int = 1) -> None:
    """Write a data set of simulated films: ``images/*.tiff`` and ``annotations.json`` (COCO).

    The same parameters give the same bytes on every CPU, by any number of workers.

    Args:
        params: What is simulated.
        out_dir: Folder to write; it must not exist yet, or hold nothing but an earlier simulation.
        workers: Processes that simulate.

    Raises:
        ParamsError: If the folder holds something else, or no class of flaws is drawn.
    """
    require_free(out_dir, _DESCRIPTION)
    class_ids = {name: number for number, name in enumerate(drawn_classes(params.flaws), start=1)}
    info = {"description": _DESCRIPTION, "seed": params.seed}
    with replaced_folder(out_dir) as folder:
        (folder / IMAGES_NAME).mkdir()
        write_film = partial(_write_film, params, folder, class_ids)
        # Closed before the folder: no worker writes into one that is being taken away.
        with closing(_films(write_film, params, workers)) as films:
            progress = tqdm(films, "simulate", params.films, unit="film")
            write_truth(folder / TRUTH_NAME, info, progress, class_ids)


def write_tiff(
    path: Path,
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"],
    pixel_pitch_mm: float,
) -> None:
    """Write an uncompressed TIFF of 8 or 16 bits with its pixel pitch, the same bytes on every computer."""
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


def require_free(folder: Path, description: str) -> None:
    """Raise a ParamsError where a folder holds anything but an earlier data set of the same description."""
    if not is_free(folder, {IMAGES_NAME, TRUTH_NAME}, TRUTH_NAME, description):
        raise ParamsError(
            f"{folder} holds data that was not simulated here; move it away or name another folder with --out"
        )


def _films(
    write_film: "partial[tuple[Entry, list[Entry]]]", params: SimulateParams, workers: int
) -> Generator[tuple[Entry, list[Entry]]]:
    if workers == 1:
        yield from map(write_film, range(params.films))
        return
    # Spawned, not forked: a fork would copy the locks of threads that it has not got.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        # A spectrum costs as much as four films of the sample: the workers share them out, and all get all.
        keys = [(tube_kv, params.beam.filter_mm_copper) for tube_kv in tube_voltages(params.beam.tube_kv)]
        spectra = dict(zip(keys, pool.starmap(tube_spectrum, keys, chunksize=1), strict=True))
        yield from pool.imap(partial(_with_spectra, spectra, write_film), range(params.films))


def _with_spectra(
    spectra: Spectra, write_film: "partial[tuple[Entry, list[Entry]]]", film: int
) -> tuple[Entry, list[Entry]]:
    learn_spectra(spectra)
    return write_film(film)


def _write_film(
    params: SimulateParams, folder: Path, class_ids: dict[str, int], film: int
) -> tuple[Entry, list[Entry]]:
    """Simulate and write one film; return its truth."""
    radiograph = simulate_film(params, film)
    weld, section = divmod(film, params.films_per_weld)
    file_name = f"{IMAGES_NAME}/weld_{weld + 1:03d}_film_{section + 1}.tiff"
    write_tiff(folder / file_name, radiograph.pixels, params.pixel_pitch_mm)
    image_hw = (params.height_px, params.width_px)
    image: Entry = {
        "file_name": file_name,
        "height": params.height_px,
        "width": params.width_px,
        "pixel_pitch_mm": params.pixel_pitch_mm,
        "weld": f"weld_{weld + 1:03d}",
        "seed": [params.seed, film],
        "scene": radiograph.scene,
    }
    flaws = [
        flaw_entry(flaw, visibility, params.visible_cnr, image_hw, class_ids)
        for flaw, visibility in zip(radiograph.flaws, radiograph.visibilities, strict=True)
    ]
    return image, flaws
