import pytest

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.annotation_formats.folders import split_of


@pytest.mark.parametrize(
    ("folders", "split"),
    [
        (("images", "train2017"), Split.TRAIN),
        (("Training", "images"), Split.TRAIN),
        (("valid",), Split.VAL),
        (("test", "weld", "val"), Split.VAL),
        (("testing1",), Split.TEST),
        (("test pieces",), None),
        (("test_plate_7",), None),
        (("valid_joints", "images"), None),
        (("2017train",), None),
        ((), None),
    ],
)
def test_a_folder_names_a_split_only_by_its_whole_name(folders, split):
    assert split_of(folders) is split
