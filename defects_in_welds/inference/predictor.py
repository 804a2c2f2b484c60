"""Run a trained detector over whole films."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped
from torch import Tensor, nn

from defects_in_welds.data.annotation import DataError
from defects_in_welds.data.film_files import read_film
from defects_in_welds.data.grey_levels import to_unit_float32
from defects_in_welds.data.standardisation import standardise
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.data.tiling import cut_tile, plan_tiles
from defects_in_welds.inference.detections import Detections
from defects_in_welds.inference.exported_model import load_exported_model
from defects_in_welds.inference.tile_merging import merge_tiles
from defects_in_welds.model.checkpoint import load_detector
from defects_in_welds.model.faster_rcnn import InputSpec
from defects_in_welds.params import Params, ParamsError, load_params
from defects_in_welds.params.checks import require
from defects_in_welds.radiograph import Radiograph

_MOST_AT_ONCE = 4  # batches: each takes its own memory

Tile = Float32[np.ndarray, "tile tile"]


class Predictor:
    """A trained detector and what it was trained for.

    From a checkpoint it computes in float32 on every device: mixed precision would move scores by more than what two
    runs differ in. An exported model says itself what it computes in.

    Attributes:
        defect_classes: Names in order of their ids, from 1.
        input_spec: How the tiles that it takes are made.
        precision: What it computes in.
    """

    def __init__(
        self,
        detector: nn.Module,
        defect_classes: tuple[str, ...],
        input_spec: InputSpec,
        device: torch.device,
        batches_at_once: int = 1,
        precision: str = "float32",
    ) -> None:
        """Take a detector that is ready to predict on the device, and how many threads may use it at once."""
        self._detector = detector
        self._device = device
        self._batches_at_once = batches_at_once
        self._has_predicted = False
        self.defect_classes = defect_classes
        self.input_spec = input_spec
        self.precision = precision

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """Load a checkpoint, onto the GPU where there is one.

        Raises:
            CheckpointError: If the file is no checkpoint of ours.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        detector, checkpoint = load_detector(Path(path), device)
        at_once = min(torch.get_num_threads(), _MOST_AT_ONCE) if device.type == "cpu" else 1
        return cls(detector, checkpoint.defect_classes, checkpoint.input_spec, device, at_once)

    @classmethod
    def from_exported_model(cls, folder: str | Path) -> Self:
        """Open a model that `export_model` has written, on the CPU.

        Raises:
            ExportedModelError: If the folder is no exported model of ours.
            UserError: If its runtime is not installed.
        """
        at_once = min(torch.get_num_threads(), _MOST_AT_ONCE)
        detector, described = load_exported_model(Path(folder), at_once)
        device = torch.device("cpu")
        return cls(
            detector, described.defect_classes, described.input_spec, device, at_once, precision=described.precision
        )

    def predict(
        self, film: str | Path | Shaped[np.ndarray, "height width *channels"], params: Params | None = None
    ) -> Detections:
        """Find the flaws on a film.

        ``Predictor.from_checkpoint("artifacts/model/best.ckpt").predict("film.tif")``

        Args:
            film: Its file, or its pixels as uint8 or uint16, higher is lighter.
            params: Sections ``prepare`` (bit depth, pixel pitch, polarity, overlap of tiles) and ``evaluate`` (batch
                size, merging of boxes); None: those of ``configs/params.yaml``. How tiles are made otherwise is that of
                the model, whatever ``prepare`` says.

        Returns:
            Its detections in pixels of the file, best first, whatever their score.

        Raises:
            DataError: If the film cannot be read, or not be brought to the model's scale.
            ParamsError: If the overlap does not suit the model's tiles.
        """
        params = load_params() if params is None else params
        source = read_film(Path(film) if isinstance(film, str) else film, params.prepare)
        return self.predict_radiograph(source, self.standardise(source), params)

    def standardise(self, source: Radiograph) -> Radiograph:
        """Bring a film to the pixel pitch and the grey levels of those that the detector was trained with.

        Raises:
            DataError: If its pixel pitch is needed and unknown, or does not suit the model.
        """
        spec = self.input_spec
        is_in_mm = spec.resample_pitch_mm is not None or spec.background_mm is not None
        if is_in_mm and source.pixel_pitch_mm is None:
            raise DataError(
                f"{source.source}: does not say its pixel pitch, which the model needs; set prepare.pixel_pitch_mm"
            )
        try:
            return standardise(source, resample_pitch_mm=spec.resample_pitch_mm, background_mm=spec.background_mm)
        except ParamsError:  # which speaks of parameters that are the model's here
            raise DataError(
                f"{source.source}: its pixel pitch, {source.pixel_pitch_mm:g} mm, does not suit the model, which takes "
                f"films of resample_pitch_mm={spec.resample_pitch_mm}, background_mm={spec.background_mm}; correct "
                "prepare.pixel_pitch_mm"
            ) from None

    def predict_radiograph(self, source: Radiograph, standardised: Radiograph, params: Params) -> Detections:
        """Find the flaws on a film that has been read.

        Args:
            source: The film as its file has it.
            standardised: What `standardise` made of it.
            params: As in `predict`.

        Returns:
            Its detections in pixels of the file, best first.

        Raises:
            ParamsError: If the overlap does not suit the model's tiles.
        """
        tile_px, overlap_px = self.input_spec.img_size, params.prepare.overlap_px
        require(overlap_px < tile_px, "prepare.overlap_px", overlap_px, f"below {tile_px}, the model's tile side")
        places = plan_tiles(standardised.image_hw, tile_px, overlap_px)
        tiles = (
            to_unit_float32(cut_tile(standardised.pixels, place, tile_px), standardised.bit_depth) for place in places
        )
        evaluate = params.evaluate
        found = self._predict_film(tiles, places, standardised.image_hw, evaluate.batch_size, evaluate.merge_iou)
        return found.rescaled(standardised.image_hw, source.image_hw)

    def predict_store_film(self, store: TensorStore, film: int, batch_size: int, merge_iou: float) -> Detections:
        """Find the flaws on a prepared film.

        Args:
            store: The prepared data.
            film: Index of the film in it.
            batch_size: Tiles at once.
            merge_iou: IoU from which two detections of a class are one.

        Returns:
            The film's detections in pixels of the prepared film, best first.
        """
        indices = store.film_tiles(film)
        places = np.array([store.manifest.tiles[index].xyxy for index in indices])
        record = store.manifest.films[film]
        tiles = map(store.unit_pixels, indices)
        return self._predict_film(tiles, places, (record.height, record.width), batch_size, merge_iou)

    def _predict_film(
        self,
        tiles: Iterator[Tile],
        places: Int[np.ndarray, "tiles 4"],
        film_hw: tuple[int, int],
        batch_size: int,
        merge_iou: float,
    ) -> Detections:
        """Predict tiles, which are asked for batch by batch, and merge what they show."""
        batches = iter(lambda: list(islice(tiles, batch_size)), [])
        # Newer GPUs would shorten float32 in convolutions.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = [tile for batch in self._predict_batches(batches, -(-len(places) // batch_size)) for tile in batch]
        tile_of = np.repeat(np.arange(len(places)), [len(tile["scores"]) for tile in found])
        return merge_tiles(
            torch.cat([tile["boxes"] for tile in found]).numpy() + np.tile(places[tile_of, :2], 2),
            torch.cat([tile["scores"] for tile in found]).numpy(),
            torch.cat([tile["labels"] for tile in found]).numpy(),
            tile_of,
            places,
            film_hw,
            merge_iou,
        )

    def _predict_batches(self, batches: Iterator[list[Tile]], count: int) -> Iterator[list[dict[str, Tensor]]]:
        """Predict batches in order, some of them at once where the detector allows it.

        A core then waits for the others at the end of the film, not at the end of each of a batch's many small steps.
        """
        if not self._has_predicted:  # pooling learns the levels' scales from the first batch, which must not come twice
            yield from map(self._predict_tiles, islice(batches, 1))
            self._has_predicted = True
            count -= 1
        workers = min(self._batches_at_once, count)
        if workers <= 1:
            yield from map(self._predict_tiles, batches)
            return
        threads = torch.get_num_threads()
        each = max(1, threads // workers)
        try:
            with ThreadPoolExecutor(workers, "predict", torch.set_num_threads, (each,)) as pool:
                waiting: deque[Future[list[dict[str, Tensor]]]] = deque()
                for batch in batches:
                    waiting.append(pool.submit(self._predict_tiles, batch))
                    if len(waiting) > workers:
                        yield waiting.popleft().result()
                yield from (predicting.result() for predicting in waiting)
        finally:
            torch.set_num_threads(threads)  # a part of it holds for the whole process, not for the one thread

    @torch.inference_mode()
    def _predict_tiles(self, tiles: list[Tile]) -> list[dict[str, Tensor]]:
        images = [torch.from_numpy(tile)[None].to(self._device) for tile in tiles]
        return [{name: values.cpu() for name, values in tile.items()} for tile in self._detector(images)]
