"""What a detector reports."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64


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
