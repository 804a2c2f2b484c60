"""Real data sets are read whole; boxes agree with masks to the pixel."""

from collections import Counter

import cv2
import numpy as np
import pytest

from defects_in_welds.data.annotation import FindingKind, Split
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.dataset_checks import check_annotations
from defects_in_welds.data.image_reading import read_image_hw, read_radiograph


def test_every_w0001_box_is_the_bounding_box_of_one_component_of_its_mask(real_data):
    dataset = read_dataset(real_data / "gdxray-welds/W0001")
    boxes = 0
    for film in dataset.radiographs:
        mask_path = real_data / "gdxray-welds/W0002" / film.name.replace("W0001", "W0002")
        mask = read_radiograph(mask_path).pixels
        assert set(np.unique(mask)) == {0, 255}
        _, _, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
        x, y, width, height = stats[1:, :4].T  # the first is the background
        components = Counter(zip(x.tolist(), y.tolist(), (x + width).tolist(), (y + height).tolist(), strict=True))
        annotated = Counter(annotation.box_xyxy for annotation in film.annotations)
        assert annotated <= components
        boxes += annotated.total()
    assert boxes == 506


@pytest.mark.parametrize(
    ("folder", "annotation_format", "films", "boxes", "kinds"),
    [
        ("gdxray-welds/W0001", "gdxray", 6, 506, {}),
        ("gdxray-welds", "gdxray", 6, 506, {FindingKind.IGNORED_FILE: 2}),
        ("gdxray-castings/C0041", "gdxray", 37, 185, {FindingKind.IGNORED_FILE: 1}),
        (
            "gdxray-castings",
            "gdxray",
            385,
            810,
            {FindingKind.IGNORED_FILE: 1, FindingKind.IMAGE_WITHOUT_LABEL: 124},
        ),
        ("steel-surface-voc", "voc", 240, 554, {}),
        ("weld-photos-yolo", "yolo", 835 + 176, 3700, {FindingKind.IGNORED_FILE: 1}),
    ],
)
def test_real_sets_are_recognised_and_read_whole(real_data, folder, annotation_format, films, boxes, kinds):
    dataset = read_dataset(real_data / folder)
    assert dataset.annotation_format == annotation_format
    assert len(dataset.radiographs) == films
    assert sum(len(film.annotations) for film in dataset.radiographs) == boxes
    assert Counter(finding.kind for finding in dataset.findings) == kinds
    for film in dataset.radiographs:
        kept, findings = check_annotations(film, read_image_hw(film.image_path), "fail")
        assert (len(kept), findings) == (len(film.annotations), ())


def test_weld_photographs_keep_their_splits_and_classes(real_data):
    dataset = read_dataset(real_data / "weld-photos-yolo")
    assert dataset.defect_classes == ("Bad Weld", "Good Weld", "Defect")
    assert Counter(film.split for film in dataset.radiographs) == {Split.TRAIN: 835, Split.VAL: 176}


def test_steel_corners_are_counted_from_1(real_data):
    dataset = read_dataset(real_data / "steel-surface-voc")
    boxes = np.array([annotation.box_xyxy for film in dataset.radiographs for annotation in film.annotations])
    assert boxes.min() == 0
    assert boxes.max() == 200
