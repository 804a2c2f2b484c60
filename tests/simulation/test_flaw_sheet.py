import pytest

from defects_in_welds.params import ParamsError, load_params
from defects_in_welds.simulation.preview import draw_flaw_sheet


def test_a_flaw_too_long_for_the_sheet_is_an_error_that_names_it(tmp_path):
    overrides = ["simulate.pixel_pitch_mm=0.3", "simulate.beam.tube_kv=[160, 160]"]
    overrides += ["simulate.flaws.longitudinal_crack.length_mm=[200,200]"]
    with pytest.raises(ParamsError, match=r"simulate\.flaws\.longitudinal_crack finds room"):
        draw_flaw_sheet(load_params(overrides).simulate, tmp_path / "sheet.png")
