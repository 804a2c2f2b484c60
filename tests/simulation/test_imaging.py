import numpy as np
import pytest

from defects_in_welds.simulation import imaging
from defects_in_welds.simulation.flaws import GAS, SLAG, FlawBody
from defects_in_welds.simulation.weld import Weld, WeldSection

PITCH_MM = 0.1
PLATE_MM = 10.0


def plate() -> WeldSection:
    weld = Weld(PLATE_MM, 10.0, 2.0, 4.0, 1.0, 2.0)
    return WeldSection(weld, np.full((200, 300), PLATE_MM), np.full(300, 100.0))


def intensity(grey: np.ndarray) -> np.ndarray:
    return 1.0 - grey / imaging.FULL_SCALE


def block(material: str, chord_mm: float) -> FlawBody:
    chord = np.zeros((200, 300))
    chord[50:150, 100:200] = chord_mm
    return FlawBody("block", material, chord, 10.0, 10.0, chord_mm)


@pytest.mark.parametrize(("material", "per_mm"), [(GAS, 0.1546), (SLAG, 0.1546 - 0.042)])
def test_contrast_follows_beer_lambert(monkeypatch, material, per_mm):
    monkeypatch.setattr(imaging, "_field", lambda image_hw, rng: np.ones(image_hw))
    grey = imaging.expose(plate(), [block(material, 2.0)], np.random.default_rng(0), PITCH_MM)
    ratio = intensity(grey[80:120, 130:170]).mean() / intensity(grey[:, :60]).mean()
    assert ratio == pytest.approx(np.exp(per_mm * 2.0), rel=0.002)


def test_a_flaw_of_gas_is_darker_than_the_weld():
    grey = imaging.expose(plate(), [block(GAS, 2.0)], np.random.default_rng(0), PITCH_MM)
    assert grey[80:120, 130:170].mean() < grey[:40].mean()


def test_noise_is_that_of_the_quanta(monkeypatch):
    monkeypatch.setattr(imaging, "_field", lambda image_hw, rng: np.ones(image_hw))
    level = intensity(imaging.expose(plate(), [], np.random.default_rng(0), PITCH_MM))
    assert level.mean() / level.std() == pytest.approx(np.sqrt(imaging.QUANTA_PER_PIXEL), rel=0.02)


def test_an_edge_is_as_unsharp_as_asked(monkeypatch):
    monkeypatch.setattr(imaging, "_field", lambda image_hw, rng: np.ones(image_hw))
    monkeypatch.setattr(imaging, "QUANTA_PER_PIXEL", 1e12)
    level = intensity(imaging.expose(plate(), [block(GAS, 2.0)], np.random.default_rng(0), PITCH_MM))
    spread = np.diff(level[100, 80:120])
    offsets = np.arange(spread.size) * PITCH_MM
    centre = (spread * offsets).sum() / spread.sum()
    sigma_mm = np.sqrt((spread * (offsets - centre) ** 2).sum() / spread.sum())
    assert sigma_mm == pytest.approx(imaging.UNSHARPNESS_SIGMA_MM, rel=0.05)
