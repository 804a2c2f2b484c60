"""Defect classes and their ISO 6520-1 numbers.

A data set brings its own class names; this table gives a name its number where the standard has one. Background is no
defect class: it has id 0 in the model, and ``defect_classes[i]`` has id ``i + 1``.

References:
    ISO 6520-1:2007, Welding and allied processes - Classification of geometric imperfections in metallic materials.
"""

from collections.abc import Sequence
from dataclasses import dataclass

BACKGROUND_ID = 0

ALL = "all"
"""Stands for all classes together, where a table has a row for each class."""

BACKGROUND = "background"
"""Stands for the class of reports where no flaw is."""

MISSED = "missed"
"""Stands for the class that flaws without a report are reported as."""

RESERVED_NAMES = (ALL, BACKGROUND, MISSED)
"""What no class can be named, since tables of results mean something else by it."""


@dataclass(frozen=True)
class DefectClass:
    """A kind of weld imperfection.

    Attributes:
        name: English name.
        iso_6520_1: Reference number in ISO 6520-1.
        aliases: Other names in use, in lower case.
    """

    name: str
    iso_6520_1: str
    aliases: tuple[str, ...] = ()


DEFECT_CLASSES = (
    DefectClass("crack", "100", ("cracks",)),
    DefectClass("longitudinal crack", "101"),
    DefectClass("longitudinal crack in weld metal", "1011"),
    DefectClass("transverse crack", "102"),
    DefectClass("transverse crack in weld metal", "1021"),
    DefectClass("cavity", "200"),
    DefectClass("gas pore", "2011", ("pore", "pores", "porosity", "gas cavity", "blowhole")),
    DefectClass("uniformly distributed porosity", "2012"),
    DefectClass("clustered porosity", "2013", ("cluster porosity", "porosity cluster")),
    DefectClass("linear porosity", "2014"),
    DefectClass("elongated cavity", "2015"),
    DefectClass("worm-hole", "2016", ("wormhole", "worm hole")),
    DefectClass("solid inclusion", "300", ("inclusion", "inclusions")),
    DefectClass("slag inclusion", "301", ("slag", "slag inclusions")),
    DefectClass("tungsten inclusion", "3041", ("tungsten",)),
    DefectClass("lack of fusion", "401", ("incomplete fusion", "lof")),
    DefectClass("lack of sidewall fusion", "4011"),
    DefectClass("lack of penetration", "402", ("incomplete penetration", "lop")),
    DefectClass("undercut", "501", ("undercuts",)),
    DefectClass("excess penetration", "504"),
    DefectClass("burn-through", "510", ("burn through",)),
    DefectClass("spatter", "602"),
)

_BY_NAME = {name: known for known in DEFECT_CLASSES for name in (known.name, *known.aliases)}


def label_of(class_name: str, defect_classes: Sequence[str]) -> int:
    """Give a class its id, from 1: its place in the data set's list, shifted by the background."""
    return defect_classes.index(class_name) + BACKGROUND_ID + 1


def iso_6520_1_number(class_name: str) -> str | None:
    """Look up the ISO 6520-1 number of a class name, whatever its case, hyphens or underscores.

    Returns:
        The reference number, or None where the name is not in the table.
    """
    plain = " ".join(class_name.lower().replace("_", " ").split())
    known = _BY_NAME.get(plain) or _BY_NAME.get(plain.replace("-", " ")) or _BY_NAME.get(plain.replace(" ", "-"))
    return known.iso_6520_1 if known else None
