"""Run a trained detector over whole films."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.inference.detections import Detections
from defects_in_welds.inference.tile_merging import merge_tiles
from defects_in_welds.model.checkpoint import load_detector
from defects_in_welds.model.faster_rcnn import InputSpec


class Predictor:
    """A trained detector and what it was trained for.

    It computes in float32 on every device: mixed precision would move scores by more than what two runs differ in.

    Attributes:
        defect_classes: Names in order of their ids, from 1.
        input_spec: How the tiles that it takes are made.
    """

    def __init__(
        self, detector: nn.Module, defect_classes: tuple[str, ...], input_spec: InputSpec, device: torch.device
    ) -> None:
        """Take a detector that is ready to predict on the device."""
        self._detector = detector
        self._device = device
        self.defect_classes = defect_classes
        self.input_spec = input_spec

    @classmethod
    def from_checkpoint(cls, path: Path) -> Self:
        """Load a checkpoint, onto the GPU where there is one.

        Raises:
            CheckpointError: If the file is no checkpoint of ours.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        detector, checkpoint = load_detector(path, device)
        return cls(detector, checkpoint.defect_classes, checkpoint.input_spec, device)

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
        found: list[dict[str, Tensor]] = []
        for start in range(0, len(indices), batch_size):
            found += self._predict_tiles(store, indices[start : start + batch_size])

        places = np.array([store.manifest.tiles[index].xyxy for index in indices])
        tile_of = np.repeat(np.arange(len(indices)), [len(tile["scores"]) for tile in found])
        record = store.manifest.films[film]
        return merge_tiles(
            torch.cat([tile["boxes"] for tile in found]).numpy() + np.tile(places[tile_of, :2], 2),
            torch.cat([tile["scores"] for tile in found]).numpy(),
            torch.cat([tile["labels"] for tile in found]).numpy(),
            tile_of,
            places,
            (record.height, record.width),
            merge_iou,
        )

    @torch.inference_mode()
    def _predict_tiles(self, store: TensorStore, indices: list[int]) -> list[dict[str, Tensor]]:
        images = [torch.from_numpy(store.unit_pixels(index))[None].to(self._device) for index in indices]
        with torch.backends.cudnn.flags(
            enabled=True, allow_tf32=False
        ):  # newer GPUs would shorten float32 in convolutions
            found = self._detector(images)
        return [{name: values.cpu() for name, values in tile.items()} for tile in found]
