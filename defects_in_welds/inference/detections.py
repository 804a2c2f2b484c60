"""What a detector reports."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from defects_in_welds import boxes


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector reports about a film.

    Attributes:
        boxes_xyxy: Half-open boxes in film pixels.
        scores: From 0 to 1.
        labels: Class ids from 1, as ``defect_classes.index(name) + 1``.
    """

    boxes_xyxy: Float32[np.ndarray, "boxes 4"]
    scores: Float32[np.ndarray, " boxes"]
    labels: Int64[np.ndarray, " boxes"]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: slice | Int[np.ndarray, " chosen"] | Bool[np.ndarray, " boxes"]) -> "Detections":
        return Detections(self.boxes_xyxy[chosen], self.scores[chosen], self.labels[chosen])

    def rescaled(self, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> "Detections":
        """Carry the boxes to the same film in another size, edge to edge."""
        return replace(self, boxes_xyxy=boxes.rescale(self.boxes_xyxy, from_hw, to_hw).astype(np.float32))
