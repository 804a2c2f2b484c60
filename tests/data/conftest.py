"""Tiny data sets, made on the spot."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

SQUARE = {"pore": 8, "crack": 12}


@pytest.fixture
def write_films():
    """Write 16-bit films with one bright square each (every fourth film has none), and their truth in COCO.

    Film ``i`` shows a square of a class in turn at a place of its own, is 96 px high and 150 px wide, and of weld
    ``i // 2``; of weld ``i`` where splits are named.
    """

    def write(folder: Path, films: int, *, splits=(None,), dtype=np.uint16, image_hw=(96, 150)) -> Path:
        (folder / "images").mkdir(parents=True)
        images, annotations = [], []
        classes = list(SQUARE)
        for i in range(films):
            rng = np.random.default_rng(i)
            full_scale = np.iinfo(dtype).max
            pixels = rng.integers(full_scale // 8, full_scale // 2, image_hw).astype(dtype)
            if i % 4 != 3:
                name = classes[i % 2]
                side = SQUARE[name]
                x, y = int(rng.integers(0, image_hw[1] - side)), int(rng.integers(0, image_hw[0] - side))
                pixels[y : y + side, x : x + side] = full_scale - i
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": i,
                        "category_id": 1 + i % 2,
                        "bbox": [x, y, side, side],
                        "difficult": i % 8 == 6,
                    }
                )
            file = f"images/film_{i:02}.tiff"
            tifffile.imwrite(folder / file, pixels)
            height, width = image_hw
            weld = f"weld {i // 2 if splits == (None,) else i}"
            image = {"id": i, "file_name": file, "width": width, "height": height, "weld": weld}
            images.append(image | {"split": splits[i % len(splits)]})
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations.json").write_text(json.dumps(content))
        return folder

    return write
