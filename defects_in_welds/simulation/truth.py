"""The truth of simulated flaws as COCO, with what the standard lacks in extra fields."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from jaxtyping import Bool

from defects_in_welds.simulation.bodies import FlawBody
from defects_in_welds.simulation.imaging import Visibility
from defects_in_welds.taxonomy import iso_6520_1_number

TRUTH_NAME = "annotations.json"

Entry = dict[str, object]


def flaw_entry(
    flaw: FlawBody, visibility: Visibility, visible_cnr: float, image_hw: tuple[int, int], class_ids: Mapping[str, int]
) -> Entry:
    """Describe a flaw as a COCO annotation that still lacks its own id and that of its image.

    Args:
        flaw: The flaw.
        visibility: How it shows on the radiograph.
        visible_cnr: Contrast-to-noise ratio below which it is marked as difficult.
        image_hw: Height and width of the radiograph, in pixels.
        class_ids: Category ids by class name.
    """
    x0, y0, x1, y1 = flaw.box_xyxy
    return {
        "category_id": class_ids[flaw.defect_class],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": flaw.area_px,
        "iscrowd": 0,
        "difficult": int(visibility.cnr < visible_cnr),
        "iso_6520_1": iso_6520_1_number(flaw.defect_class),
        "length_mm": round(flaw.length_mm, 3),
        "width_mm": round(flaw.width_mm, 3),
        "height_mm": round(flaw.height_mm, 3),
        "depth_mm": round(flaw.depth_mm, 3),
        "tilt_deg": round(flaw.tilt_deg, 2),
        "contrast": round(visibility.contrast, 5),
        "cnr": round(visibility.cnr, 3),
        "segmentation": {
            "size": list(image_hw),
            "counts": run_lengths(flaw.mask, flaw.top_px, flaw.left_px, image_hw),
        },
    }


def run_lengths(
    mask: Bool[np.ndarray, "rows columns"], top_px: int, left_px: int, image_hw: tuple[int, int]
) -> list[int]:
    """Encode a mask in COCO's uncompressed run lengths: column by column, the first run outside the mask.

    Args:
        mask: A patch of the radiograph.
        top_px: Row of the patch on the radiograph.
        left_px: Column of the patch on the radiograph.
        image_hw: Height and width of the radiograph, in pixels.
    """
    height, width = image_hw
    columns = np.zeros((mask.shape[1], height), dtype=np.bool_)
    columns[:, top_px : top_px + mask.shape[0]] = mask.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + left_px * height
    counts: list[int] = np.diff(changes, prepend=0, append=height * width).tolist()
    return counts


def write_truth(
    path: Path,
    info: Mapping[str, object],
    films: Iterable[tuple[Entry, Sequence[Entry]]],
    class_ids: Mapping[str, int],
) -> None:
    """Write a COCO file, one image or annotation a line; each film is taken when the one before it is written.

    Args:
        path: File to write.
        info: What the data set is.
        films: Each image's entry, without its id, and the entries of the flaws on it.
        class_ids: Category ids by class name.
    """
    categories = [
        {"id": number, "name": name, "iso_6520_1": iso_6520_1_number(name)} for name, number in class_ids.items()
    ]
    # Images come before annotations: these wait in a file, not in memory.
    with (
        path.open("w", encoding="utf-8", newline="\n") as file,
        TemporaryFile("w+", encoding="utf-8", newline="\n", dir=path.parent) as annotations,
    ):
        file.write('{\n"info": ' + json.dumps(dict(info)) + ',\n"images": [\n')
        flaw_id = 0
        for number, (image, flaws) in enumerate(films, start=1):
            file.write(",\n" * (number > 1) + json.dumps({"id": number, **image}))
            for flaw in flaws:
                flaw_id += 1
                entry = json.dumps({"id": flaw_id, "image_id": number, **flaw})
                annotations.write(",\n" * (flaw_id > 1) + entry)
        annotations.seek(0)
        file.write('\n],\n"annotations": [\n')
        shutil.copyfileobj(annotations, file)
        file.write('\n],\n"categories": [\n' + ",\n".join(map(json.dumps, categories)) + "\n]\n}\n")
