"""Whole films for benchmarks: simulated once, written as TIFF or PNG of 16 or 8 bits with their truth."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile

from defects_in_welds.params import Params, load_params

KINDS = ("16-bit TIFF", "8-bit PNG")
HEIGHT_PX, WIDTH_PX = 1250, 5000
TILE_PX, OVERLAP_PX = 640, 128


def film_params() -> Params:
    return load_params(
        [
            f"simulate.height_px={HEIGHT_PX}",
            f"simulate.width_px={WIDTH_PX}",
            "simulate.pixel_pitch_mm=0.04",
            "simulate.films_per_weld=1",
            "simulate.defect_free_share=0",
            f"prepare.img_size={TILE_PX}",
            f"prepare.overlap_px={OVERLAP_PX}",
            "prepare.val_share=0",
            "prepare.test_share=0",
            "prepare.near_duplicate_correlation=1",
            "prepare.on_finding=keep",
        ]
    )


def write_films(
    folder: Path, films: int, kinds: Sequence[str] = KINDS, params: Params | None = None
) -> dict[str, Path]:
    """Simulate films, those of `film_params` unless others are named, and write them below a folder.

    Returns:
        The data set of each kind.
    """
    from defects_in_welds.simulation.dataset import simulate_dataset  # here, for it imports much

    params = params or film_params()
    params.simulate.films = films
    simulate_dataset(params.simulate, folder / "simulated")
    return {kind: _write_kind(folder, kind) for kind in kinds}


def _write_kind(folder: Path, kind: str) -> Path:
    data = folder / kind.replace(" ", "_")
    (data / "images").mkdir(parents=True)
    truth = json.loads((folder / "simulated" / "annotations.json").read_text(encoding="utf-8"))
    for image in truth["images"]:
        pixels = tifffile.imread(folder / "simulated" / image["file_name"])
        deep = pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * 257
        name = Path(image["file_name"]).with_suffix(f".{kind[-4:].strip().lower()}")
        _write(deep if kind.startswith("16") else (deep >> 8).astype(np.uint8), data / name)
        image["file_name"] = str(name)
    (data / "annotations.json").write_text(json.dumps(truth), encoding="utf-8")
    return data


def _write(pixels: np.ndarray, path: Path) -> None:
    if path.suffix == ".png":
        cv2.imwrite(str(path), pixels)
    else:
        tifffile.imwrite(path, pixels)
