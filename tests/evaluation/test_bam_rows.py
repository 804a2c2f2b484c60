"""Made-up rows in the form of BAM's file; ``tests/real_data/test_bam_truth.py`` reads the file itself."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import xlrd
from films import make_film

from defects_in_welds.data.annotation import DataError
from defects_in_welds.evaluation import bam_truth
from defects_in_welds.evaluation.bam_truth import (
    agreement_by_offset,
    cell_truth_from_bam,
    cohens_kappa,
    parse_bam_truth,
    read_bam_truth,
)
from defects_in_welds.evaluation.cells import cell_auc, cell_rates
from defects_in_welds.evaluation.matching import match

HEADER = [
    ["ROC", "Label", "Cells", "Type", "l", "b", "S", "OD", "D", "Max."],
    ["Nr", "", "(cm)", "", "(mm)", "(mm)", "", "", "", "cells"],
]


def flaw(film, section, code, length, width="", d="", sections="", label="A1"):
    return [float(film), label, section, code, length, width, "", "", d, sections]


def good_rows():
    return [
        *(list(row) for row in HEADER),
        flaw(7, 1.0, "1011", 25.0, d=14.0),
        flaw(7, 3.0, 2013.0, 9.9, 2.5, d="?", sections=6.0),
        flaw(8, "No indication", "", "", sections=4.0, label=""),
        flaw(9, 2.0, "5011*", 4.0, sections=3.0, label=35.0),
        flaw(9, 1.0, "402", 30.0, sections=13.0, label=35.0),
    ]


def changed(row, column, value):
    rows = good_rows()
    rows[row - 1][column] = value
    return rows


# --- the rows -----------------------------------------------------------------------------------------------------


def test_rows_become_films_and_flaws():
    truth = parse_bam_truth([*good_rows(), [""] * 10], "truth.xls: sheet 'A'")
    assert truth.films.to_dict("list") == {"film": [7, 8, 9], "label": ["A1", "", "35"], "sections": [6, 4, 3]}
    flaws = truth.flaws
    assert flaws["film"].tolist() == [7, 7, 9, 9]
    assert flaws["section"].tolist() == [1, 3, 2, 1]
    assert flaws["last_section"].tolist() == [3, 3, 2, 3]
    assert flaws["iso_6520_1"].tolist() == ["1011", "2013", "5011", "402"]
    assert flaws["is_starred"].tolist() == [False, False, True, False]
    assert flaws["length_mm"].tolist() == [25, 9.9, 4, 30]
    assert flaws["width_mm"].tolist() == pytest.approx([math.nan, 2.5, math.nan, math.nan], nan_ok=True)
    assert flaws["d"].tolist() == pytest.approx([14, math.nan, math.nan, math.nan], nan_ok=True)
    assert flaws["row"].tolist() == [3, 4, 6, 7]
    assert truth.remarks == (
        "truth.xls: sheet 'A', row 5: film 8 has no label",
        "truth.xls: sheet 'A', row 7: Max. cells is the sum of all films, 13",
        "truth.xls: sheet 'A', row 6: type '5011*' has a star, which the file does not explain",
        "truth.xls: sheet 'A', row 7: section 1 comes after section 2",
    )


def test_a_header_alone_holds_nothing():
    truth = parse_bam_truth(HEADER, "truth.xls")
    assert (len(truth.films), len(truth.flaws), truth.remarks) == (0, 0, ())
    assert "iso_6520_1" in truth.flaws


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "row 1: the header is not that of real-values.xls (ROC, Label, Cells, Type, l, b, S, OD, D, Max.); give"),
        (changed(2, 4, "(cm)"), "row 1: the header is not that of real-values.xls"),
        (changed(4, 0, 7.5), "row 4: film number is 7.5 where a whole number from 1 is expected; correct it"),
        (changed(4, 0, "x"), "row 4: film number is 'x' where a whole number from 1 is expected; correct it"),
        (changed(7, 0, 7.0), "row 7: film 7 comes back after others; keep its rows together"),
        (changed(4, 1, "A2"), "row 4: film 7 has labels 'A1' and 'A2'; keep one"),
        (changed(3, 2, 0.0), "row 3: section is 0 where a whole number from 1 to 6 is expected; correct it"),
        (changed(3, 2, 7.0), "row 3: section is 7 where a whole number from 1 to 6 is expected; correct it"),
        (changed(3, 2, "No indication"), "row 3: 'No indication' beside a flaw of film 7; keep one of both"),
        (changed(5, 3, "2011"), "row 5: 'No indication' beside a flaw of film 8; keep one of both"),
        (changed(3, 3, "pore"), "row 3: type is 'pore' where a number of ISO 6520-1, 3 to 5 digits, is expected; cor"),
        (changed(3, 3, 201.5), "row 3: type is 201.5 where a number of ISO 6520-1"),
        (changed(3, 3, ""), "row 3: type is '' where a number of ISO 6520-1"),
        (changed(3, 4, ""), "row 3: length l is '' where a number above 0 is expected; correct it"),
        (changed(3, 4, -2.0), "row 3: length l is -2 where a number above 0 is expected; correct it"),
        (changed(3, 4, 60.1), "row 3: a flaw of 60.1 mm that begins in section 1 ends behind the last section of film"),
        (changed(4, 5, "wide"), "row 4: width b is 'wide' where a number above 0 is expected; correct it"),
        (changed(4, 8, "!"), "row 4: D is '!' where a number above 0 is expected; correct it"),
        (changed(4, 6, 3.0), "row 4: column S holds 3, but it is empty in BAM's file; empty it"),
        (changed(4, 7, "x"), "row 4: column OD holds 'x', but it is empty in BAM's file; empty it"),
        (changed(4, 9, ""), "row 3: film 7 has no Max. cells in any row; fill it in"),
        (changed(4, 9, "six"), "row 4: Max. cells is 'six' where a whole number from 1 is expected; correct it"),
        (changed(3, 9, 6.0), "row 4: Max. cells is 6, but film 7 has 6 in row 3, and only the sum of all films may"),
        (changed(7, 9, 12.0), "row 7: Max. cells is 12, but film 9 has 3 in row 6, and only the sum of all films may"),
        ([*good_rows()[:5], ["", 1.0]], "row 6: 2 columns where 10 are expected; correct it"),
        ([*good_rows()[:5], [""] * 10, good_rows()[5]], "row 6: film number is '' where a whole number from 1 is"),
    ],
)
def test_what_is_not_as_expected_is_told_with_its_row(rows, message):
    with pytest.raises(DataError) as told:
        parse_bam_truth(rows, "truth.xls: sheet 'A'")
    assert str(told.value).startswith("truth.xls: sheet 'A', " + message)


# --- the file -----------------------------------------------------------------------------------------------------


def make_book(rows, sheets=1):
    """What xlrd makes of a file; a value that is neither text nor number is an error cell."""

    def make_cell(value):
        ctype = {str: xlrd.XL_CELL_TEXT, float: xlrd.XL_CELL_NUMBER, int: xlrd.XL_CELL_ERROR}[type(value)]
        return SimpleNamespace(ctype=xlrd.XL_CELL_EMPTY if value == "" else ctype, value=value)

    sheet = SimpleNamespace(
        name="REAL VALUES", nrows=len(rows), row=lambda number: [make_cell(value) for value in rows[number]]
    )
    return SimpleNamespace(nsheets=sheets, sheet_by_index=lambda _: sheet)


def test_a_file_is_read_through_xlrd(monkeypatch, tmp_path):
    rows = changed(3, 3, " 1011 ")
    monkeypatch.setattr(bam_truth.xlrd, "open_workbook", lambda _: make_book(rows))
    truth = read_bam_truth(tmp_path / "truth.xls")
    assert truth.flaws["iso_6520_1"].tolist() == ["1011", "2013", "5011", "402"]
    assert truth.source == f"{tmp_path / 'truth.xls'}: sheet 'REAL VALUES'"


def test_error_cells_and_several_sheets_are_told(monkeypatch, tmp_path):
    path = tmp_path / "truth.xls"
    monkeypatch.setattr(bam_truth.xlrd, "open_workbook", lambda _: make_book(changed(3, 4, 42)))
    with pytest.raises(DataError, match="sheet 'REAL VALUES', row 3: column 5 is neither number nor text; correct it"):
        read_bam_truth(path)
    monkeypatch.setattr(bam_truth.xlrd, "open_workbook", lambda _: make_book(good_rows(), sheets=2))
    with pytest.raises(DataError, match=r"truth.xls: holds 2 sheets; keep the one with the true flaws"):
        read_bam_truth(path)


def test_a_file_that_is_no_xls_is_told(tmp_path):
    path = tmp_path / "truth.xls"
    with pytest.raises(
        DataError, match=r"truth.xls: No such file or directory; give the path of BAM's real-values.xls"
    ):
        read_bam_truth(path)
    for content in (b"", b"ROC,Label", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"truth.xls: no readable .xls file \(.+\); copy it anew"):
            read_bam_truth(path)


# --- sections of a film -------------------------------------------------------------------------------------------


def truth_of(*flaws, sections=6.0):
    rows = [flaw(7, float(section), "2011", length) for section, length in flaws]
    rows[0][9] = sections
    return parse_bam_truth([*HEADER, *rows], "truth.xls")


def table_of(flaws, found, image_hw=(100, 600), pixel_pitch_mm=0.1):
    return match([make_film(flaws, found, "f.png", image_hw, pixel_pitch_mm)], ("pore",), "iou", 0.5)


def test_the_section_that_a_long_flaw_may_or_may_not_reach_is_ignored():
    sections = cell_truth_from_bam(table_of([], []), 0, truth_of((1, 15.0), (5, 9.9)), 7, 0.0)
    assert sections["cell"].tolist() == [1, 2, 3, 4, 5, 6]
    assert sections["has_flaw"].tolist() == [True, True, False, False, True, False]
    assert sections["ignored"].tolist() == [False, False, True, False, False, False]


def test_another_flaw_makes_it_count_again():
    sections = cell_truth_from_bam(table_of([], []), 0, truth_of((1, 15.0), (3, 1.0)), 7, 0.0)
    assert sections["has_flaw"].tolist() == [True, True, True, False, False, False]
    assert not sections["ignored"].any()


def test_detections_and_boxes_fall_into_the_sections_where_they_are():
    found = [(20, 0, 30, 9, 1, 0.5), (145, 0, 160, 9, 1, 0.75), (590, 0, 600, 9, 1, 0.25)]
    table = table_of([(250, 0, 260, 9, 1, False), (350, 0, 360, 9, 1, True)], found)
    sections = cell_truth_from_bam(table, 0, truth_of((2, 1.0)), 7, offset_mm=5.0)
    assert sections["cell"].tolist() == [1, 2, 3, 4, 5, 6]
    assert sections["start_mm"].tolist() == [5, 15, 25, 35, 45, 55]
    assert sections["end_mm"].tolist() == [15, 25, 35, 45, 55, 65]
    assert sections["score"].tolist() == [0.75, 0.75, -math.inf, -math.inf, -math.inf, 0.25]  # 0.5 lies before
    assert sections["has_box"].tolist() == [False, False, True, False, False, False]
    assert cell_rates(sections, 0.5) == (1.0, 0.2)
    assert cell_auc(sections) == pytest.approx(0.9)


def test_sections_that_are_less_than_half_on_the_film_are_left_out():
    truth = truth_of((1, 1.0), sections=8.0)
    assert cell_truth_from_bam(table_of([], []), 0, truth, 7, 5.0)["cell"].tolist() == [1, 2, 3, 4, 5, 6]
    assert cell_truth_from_bam(table_of([], []), 0, truth, 7, 5.1)["cell"].tolist() == [1, 2, 3, 4, 5]
    assert cell_truth_from_bam(table_of([], []), 0, truth, 7, -5.1)["cell"].tolist() == [2, 3, 4, 5, 6, 7]


def test_what_lies_behind_the_last_section_rates_none():
    sections = cell_truth_from_bam(
        table_of([], [(300, 0, 310, 9, 1, 0.5)]), 0, truth_of((1, 1.0), sections=3.0), 7, 0.0
    )
    assert sections["score"].tolist() == [-math.inf] * 3


def test_an_upright_film_has_its_sections_from_the_top():
    table = table_of([], [(0, 110, 9, 120, 1, 0.5)], image_hw=(600, 100))
    assert cell_truth_from_bam(table, 0, truth_of((1, 1.0)), 7, 0.0)["score"].tolist()[:3] == [
        -math.inf,
        0.5,
        -math.inf,
    ]


def test_a_film_needs_a_pitch_and_a_truth():
    with pytest.raises(DataError, match=r"truth.xls: there is no film 8; there are: 7"):
        cell_truth_from_bam(table_of([], []), 0, truth_of((1, 1.0)), 8, 0.0)
    with pytest.raises(DataError, match=r"f.png: sections are 1 cm, but its pixel pitch is unknown; set prepare"):
        cell_truth_from_bam(table_of([], [], pixel_pitch_mm=None), 0, truth_of((1, 1.0)), 7, 0.0)


# --- where the sections begin -------------------------------------------------------------------------------------


def test_boxes_tell_where_the_sections_begin():
    table = table_of([(x, 0, x + 10, 9, 1, False) for x in (60, 260, 360)], [])
    agreement = agreement_by_offset(table, 0, truth_of((1, 1.0), (3, 1.0), (4, 1.0)), 7, np.arange(-12, 13, 6))
    assert agreement["offset_mm"].tolist() == [-12, -6, 0, 6, 12]
    assert agreement["agreement"].idxmax() == agreement["kappa"].idxmax() == 2
    assert agreement.iloc[2].to_dict() == {
        "offset_mm": 0.0, "sections": 6, "both": 3, "bam_only": 0, "box_only": 0, "neither": 3,
        "agreement": 1.0, "kappa": 1.0,
    }  # fmt: skip


def test_kappa_is_that_of_cohen():
    assert cohens_kappa(20, 5, 10, 15) == pytest.approx(0.4)  # observed 0.7, by chance 0.5
    assert math.isnan(cohens_kappa(20, 0, 10, 0))
    assert math.isnan(cohens_kappa(0, 0, 0, 0))
