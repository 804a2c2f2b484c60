"""The command ``predict``: the trained detector on any films, without annotations."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from defects_in_welds.data.annotation import DataError, Finding, FindingKind
from defects_in_welds.data.dataset_checks import CHECKS_NAME, hidden_bit_depth_findings, write_checks
from defects_in_welds.data.film_files import FilmFile, find_films, read_film
from defects_in_welds.data.image_reading import read_image_hw
from defects_in_welds.inference.export import INDICATIONS_NAME, PICTURES_NAME, PREDICTIONS_NAME, IndicationExport
from defects_in_welds.inference.exported_model import is_exported_model
from defects_in_welds.inference.operating_point import choose_min_score
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.model.checkpoint import checkpoint_path
from defects_in_welds.output_folder import is_free, replaced_folder
from defects_in_welds.params import Params, UserError
from defects_in_welds.radiograph import Radiograph

_DESCRIPTION = "Indications on radiographs of welds"

_log = logging.getLogger(__name__)

_Read = TypeVar("_Read")


def predict_films(
    params: Params,
    given: Sequence[Path],
    model: Path,
    evaluation_dir: Path,
    out_dir: Path,
    *,
    min_score: float | None = None,
    with_pictures: bool = True,
) -> None:
    """Find the flaws on films, and write what `IndicationExport` says; ``checks.csv`` lists films that were left out.

    Args:
        params: Sections ``prepare`` and ``evaluate``, as `Predictor.predict` reads them; ``prepare.on_finding`` says
            whether a film that cannot be read stops everything (``fail``) or is left out (``drop``, ``keep``); and
            ``evaluate.fallback_score_threshold``.
        given: Films, and folders of them.
        model: A checkpoint, the folder of a model, or an exported model.
        evaluation_dir: Holds ``operating_point.json``.
        out_dir: Replaced as a whole. It must not exist yet, or hold nothing but earlier predictions.
        min_score: Least score of what is reported; None: see `choose_min_score`.
        with_pictures: Whether to draw the films.

    Raises:
        CheckpointError: If there is no checkpoint, or it is broken.
        ExportedModelError: If the exported model is broken.
        DataError: If there are no films, or films that cannot be read.
        ParamsError: If the overlap does not suit the model's tiles.
        UserError: If ``out_dir`` holds something else, or the runtime of an exported model is not installed.
    """
    films = find_films(given)
    _require_free(out_dir, films)
    left_out = _LeftOut(params.prepare.on_finding)
    # Most of what can be wrong with a file shows in its header: all are read before anything is computed.
    films = [film for film in films if left_out.unless(film, partial(_read_header, film))]
    predictor, source, model_dir = _load(model)
    least = choose_min_score(min_score, model_dir, evaluation_dir, params.evaluate.fallback_score_threshold)
    _log.info("least score %.3g: %s", least.value, least.origin)
    if predictor.precision != "float32" and min_score is None:
        _log.warning(
            "%s computes in %s, where scores differ from those that this was chosen by", source, predictor.precision
        )
    info = {
        "description": _DESCRIPTION,
        "model": str(source),
        "precision": predictor.precision,
        "min_score": least.value,
        "chosen_by": least.origin,
    }
    start = time.monotonic()
    with (
        replaced_folder(out_dir) as folder,
        IndicationExport(folder, predictor.defect_classes, info, with_pictures=with_pictures) as export,
    ):
        _predict_each(films, predictor, params, least.value, export, left_out)
        left_out.write(folder / CHECKS_NAME)
    seconds = max(time.monotonic() - start, 1e-9)
    counts = export.films, export.films / seconds, export.indications
    _log.info("%d films, %.2f films/s, %d indications: %s", *counts, out_dir / INDICATIONS_NAME)
    if left_out.findings:
        _log.warning("%d films left out: %s", len(left_out.findings), out_dir / CHECKS_NAME)


def _load(model: Path) -> tuple[Predictor, Path, Path]:
    """Open a model; give what it was read from, and the folder that holds its ``run.json``."""
    if is_exported_model(model):
        return Predictor.from_exported_model(model), model, model
    checkpoint = checkpoint_path(model)
    return Predictor.from_checkpoint(checkpoint), checkpoint, checkpoint.parent


class _LeftOut:
    """The films that cannot be read.

    Attributes:
        findings: One for each.
    """

    def __init__(self, on_finding: str) -> None:
        self._on_finding = on_finding
        self.findings: list[Finding] = []

    def unless(self, film: FilmFile, read: Callable[[], _Read]) -> _Read | None:
        """Give what is read; None where the film is left out.

        Raises:
            DataError: If it cannot be read, and ``prepare.on_finding`` is ``fail``.
        """
        try:
            return read()
        except DataError as error:
            if self._on_finding == "fail":
                raise DataError(f"{error}; prepare.on_finding=drop leaves such films out") from None
            message = str(error).removeprefix(f"{film.path}: ")
            self.findings.append(Finding(FindingKind.UNREADABLE_IMAGE, film.name, None, message))
            return None

    def write(self, path: Path) -> None:
        """Write them as a table, if there are any."""
        if self.findings:
            write_checks(self.findings, self._on_finding, path)


def _predict_each(
    films: Sequence[FilmFile],
    predictor: Predictor,
    params: Params,
    min_score: float,
    export: IndicationExport,
    left_out: _LeftOut,
) -> None:
    """Predict film by film; while the detector is at work on one, the next is read."""

    def read(film: FilmFile) -> tuple[Radiograph, Radiograph]:
        source = read_film(film.path, params.prepare)
        return source, predictor.standardise(source)

    highest_level_of: dict[str, int] = {}
    with ThreadPoolExecutor(max_workers=1) as reader:
        for film, reading in tqdm(_read_ahead(films, read, reader), "predict", len(films), unit="film"):
            radiographs = left_out.unless(film, reading.result)
            if radiographs is None:
                continue
            source, standardised = radiographs
            found = predictor.predict_radiograph(source, standardised, params)
            export.add(film.name, source, found[found.scores >= min_score])
            if source.highest_stored_level is not None:
                highest_level_of[film.name] = source.highest_stored_level
    if export.films == 0:
        first = left_out.findings[0]
        raise DataError(f"no film can be read; the first: {first.path}: {first.message}")
    for finding in hidden_bit_depth_findings(highest_level_of):
        _log.warning("%s: %s, if the model was trained so", finding.path, finding.message)


def _read_ahead(
    films: Sequence[FilmFile], read: Callable[[FilmFile], _Read], reader: Executor
) -> Iterator[tuple[FilmFile, Future[_Read]]]:
    """Read films one ahead of the caller, in order."""
    waiting: deque[tuple[FilmFile, Future[_Read]]] = deque()
    for film in films:
        waiting.append((film, reader.submit(read, film)))
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def _read_header(film: FilmFile) -> tuple[int, int]:
    try:
        film.name.encode()
    except UnicodeEncodeError:  # as an old archive may unpack it: no JSON file could name it
        raise DataError(f"{film.path}: its name is not UTF-8; rename it") from None
    return read_image_hw(film.path)


def _require_free(out_dir: Path, films: Sequence[FilmFile]) -> None:
    """Refuse to write over anything but earlier predictions."""
    names = {PREDICTIONS_NAME, INDICATIONS_NAME, PICTURES_NAME, CHECKS_NAME}
    if not is_free(out_dir, names, PREDICTIONS_NAME, _DESCRIPTION):
        raise UserError(f"{out_dir} holds no earlier predictions; move it away or name another folder with --out")
    home = out_dir.resolve()
    inside = next((film.path for film in films if film.path.resolve().is_relative_to(home)), None)
    if inside is not None:
        raise UserError(f"{out_dir} would be replaced, but {inside} lies in it; name another folder with --out")
