"""Films as files: finding them, and reading them as the parameters say.

Training and use read films through `read_film` alone, so that both see the same pixels.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from defects_in_welds.data.annotation import DataError
from defects_in_welds.data.annotation_formats.folders import list_images, relative_name
from defects_in_welds.data.grey_levels import invert
from defects_in_welds.data.image_reading import IMAGE_SUFFIXES, radiograph_of, read_radiograph
from defects_in_welds.params import PrepareParams
from defects_in_welds.radiograph import Radiograph


@dataclass(frozen=True)
class FilmFile:
    """A film that somebody asked for.

    Attributes:
        path: The file, as it was named.
        name: Its path below the folder that all the films have in common, with forward slashes: unique.
    """

    path: Path
    name: str


def find_films(given: Sequence[Path]) -> list[FilmFile]:
    """Find radiographs, each once.

    Args:
        given: Files, of any name; and folders, which are searched, with the folders below them, for names of the types
            that can be read. Hidden files are passed over there.

    Returns:
        The films, sorted by name.

    Raises:
        DataError: If there is nothing at a path, or no film below a folder.
    """
    path_of: dict[Path, Path] = {}
    for path in given:
        for file in _films_at(path):
            path_of.setdefault(_absolute(file), file)
    root = Path(os.path.commonpath([_absolute(path if path.is_dir() else path.parent) for path in given]))
    films = [FilmFile(path, relative_name(absolute, root)) for absolute, path in path_of.items()]
    return sorted(films, key=lambda film: film.name)


def read_film(
    film: Path | Shaped[np.ndarray, "height width *channels"],
    prepare: PrepareParams,
    annotated_pitch_mm: float | None = None,
) -> Radiograph:
    """Read a film in its own size and grey levels.

    Args:
        film: Its file, or pixels that were read otherwise.
        prepare: Bit depth and polarity; and the pixel pitch, which goes before all others where it is given.
        annotated_pitch_mm: Pixel pitch that the annotations say, in mm; it goes before the file's own.

    Raises:
        DataError: If it cannot be read.
    """
    pitch_mm = annotated_pitch_mm if prepare.pixel_pitch_mm is None else prepare.pixel_pitch_mm
    if isinstance(film, np.ndarray):
        radiograph = radiograph_of(film, bit_depth=prepare.bit_depth, pixel_pitch_mm=pitch_mm)
    else:
        radiograph = read_radiograph(film, bit_depth=prepare.bit_depth, pixel_pitch_mm=pitch_mm)
    return invert(radiograph) if prepare.invert_polarity else radiograph


def _films_at(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: there is no such film or folder; correct the path")
    films = list_images(path)
    if not films:
        raise DataError(f"{path}: no films; looked for {', '.join(sorted(IMAGE_SUFFIXES))} there and in folders below")
    return films


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links, and name what they lead to
