import pytest

from defects_in_welds.taxonomy import BACKGROUND_ID, DEFECT_CLASSES, iso_6520_1_number, label_of


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("gas pore", "2011"),
        ("Porosity", "2011"),
        ("LACK_OF_PENETRATION", "402"),
        ("lack-of-fusion", "401"),
        ("worm hole", "2016"),
        ("Burn through", "510"),
        ("Bad Weld", None),
        ("", None),
    ],
)
def test_names_in_use_find_their_number(name, number):
    assert iso_6520_1_number(name) == number


def test_labels_begin_after_the_background():
    assert [label_of(name, ("pore", "crack")) for name in ("pore", "crack")] == [BACKGROUND_ID + 1, BACKGROUND_ID + 2]


def test_no_name_or_number_stands_twice():
    names = [name for known in DEFECT_CLASSES for name in (known.name, *known.aliases)]
    numbers = [known.iso_6520_1 for known in DEFECT_CLASSES]
    assert len(names) == len(set(names))
    assert len(numbers) == len(set(numbers))
