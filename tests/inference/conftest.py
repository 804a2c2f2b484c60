"""A detector whose answers are known."""

import pytest
import torch
from torch import nn


class BrightPartDetector(nn.Module):
    """Reports the bounding box of all that is brighter than half of full scale, with the brightness as its score."""

    def __init__(self):
        super().__init__()
        self.batch_sizes = []

    def forward(self, images):
        self.batch_sizes.append(len(images))
        return [self.look_at(image[0]) for image in images]

    def look_at(self, image):
        rows, columns = torch.nonzero(image > 0.5, as_tuple=True)
        if not len(rows):
            return {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        return {"boxes": box[None], "scores": image.max()[None], "labels": torch.tensor([2])}


@pytest.fixture
def detector():
    return BrightPartDetector()
