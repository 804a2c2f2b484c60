"""The X-ray beam: spectrum, attenuation in the metal, unsharpness, scattered radiation and field.

SpekPy gives the tube's spectrum and NIST's attenuation coefficients. Its numbers come from libraries whose last bits
differ between CPUs, so they are rounded to six significant digits before anything is drawn or looked up with them;
from there on only operations that are equal to the bit are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import BeamParams
from defects_in_welds.simulation.exact_math import blur, exp, uniform, uniform_in, wide_blur

# Density in g/cm3 and shares of mass by atomic number.
# Steel: EN 1993-1-1. Stainless steel: 1.4301 (AISI 304), density of EN 10088-1. Elements: NIST, NISTIR 5632, table 1.
# Slag: CaMnSi2O6, a calcium manganese silicate as in the slag of covered electrodes; density of its glass.
# The screen's density plays no part: its thickness is given as mass per area.
MATERIALS: dict[str, tuple[float, dict[int, float]]] = {
    "steel": (7.85, {26: 1.0}),
    "stainless steel": (7.9, {26: 0.71, 24: 0.19, 28: 0.09, 25: 0.01}),
    "aluminium": (2.699, {13: 1.0}),
    "titanium": (4.54, {22: 1.0}),
    "copper": (8.96, {29: 1.0}),
    "tungsten": (19.3, {74: 1.0}),
    "platinum": (21.45, {78: 1.0}),
    "lead": (11.35, {82: 1.0}),
    "slag": (3.2, {8: 0.38836, 14: 0.22724, 20: 0.16214, 25: 0.22226}),
}
GAS = "gas"
METAL = "metal"

ANODE_ANGLE_DEG = 20.0  # as in many directional industrial tubes
WINDOW_MM_BERYLLIUM = 1.0
BIN_KEV = 2.0
STEP_KV = 20.0  # the voltages tried: each costs a spectrum, a quarter of a second
SCREEN_G_CM2 = 0.1  # Gd2O2S, the usual phosphor of digital detector arrays for welds
SCREEN_SHARES = {8: 0.08453, 16: 0.08470, 64: 0.83077}

TABLE_KNOTS = 4096  # interpolation is then within 1e-5 of the sum over the bins, 1e-4 where hardly any metal is left
BLOCK = 32_768  # values looked up at a time, so that they stay in the CPU's cache
BLOCKS_PER_SCATTER_SIGMA = 8


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The open beam as the detector sees it.

    Attributes:
        energy_kev: Middle of each bin.
        quanta_per_mm2: Quanta that the detector absorbs, of each bin, for 1 mA s at 1 m from the focal spot.
    """

    energy_kev: Float[np.ndarray, " bins"]
    quanta_per_mm2: Float[np.ndarray, " bins"]

    @property
    def signal_share(self) -> Float[np.ndarray, " bins"]:
        """Share of each bin in the signal of an energy-integrating detector."""
        signal = self.energy_kev * self.quanta_per_mm2
        return signal / _total(signal)


Spectra = dict[tuple[float, float], Spectrum]
"""By tube voltage in kV and copper filter in mm."""

_spectra: Spectra = {}


@dataclass(frozen=True, eq=False)
class Beam:
    """The beam of one film.

    Attributes:
        material: Base metal.
        nominal_path_mm: Base metal along the beam through the sound plate.
        wall_mm: Thickness of the plate, or of the pipe's wall that bears the weld.
        tube_kv: Tube voltage.
        optical_depth: Effective attenuation coefficient behind the sound plate times its thickness.
        spectrum: The open beam.
        step_mm: Distance of the table's knots.
        table: Share of the open beam's signal behind 0, 1, 2, ... steps of base metal.
        source_to_object_mm: From the focal spot to the upper surface of the plate, or of that wall.
        gap_mm: From the object's lower surface to the detector.
        focal_spot_mm: Width of the focal spot.
        scatter_ratio: Scattered over primary signal behind the sound plate; the build-up factor less 1.
        scatter_width_mm: Standard deviation of the scattered radiation's spread.
        heel_fall: Loss of intensity from the brightest point to the farther end of the film.
        heel_middle: Place of the brightest point, in halves of the film's length from its middle.
    """

    material: str
    nominal_path_mm: float
    wall_mm: float
    tube_kv: float
    optical_depth: float
    spectrum: Spectrum
    step_mm: float
    table: Float[np.ndarray, " knots"]
    source_to_object_mm: float
    gap_mm: float
    focal_spot_mm: float
    scatter_ratio: float
    scatter_width_mm: float
    heel_fall: float
    heel_middle: float

    @property
    def source_to_middle_mm(self) -> float:
        """Distance from the focal spot to the middle of the weld's thickness."""
        return self.source_to_object_mm + self.wall_mm / 2.0

    @property
    def middle_to_detector_mm(self) -> float:
        """Distance from the middle of the weld's thickness to the detector."""
        return self.gap_mm + self.wall_mm / 2.0

    @property
    def magnification(self) -> float:
        """Size on the detector over size in the middle of the object."""
        return (self.source_to_middle_mm + self.middle_to_detector_mm) / self.source_to_middle_mm

    @property
    def unsharpness_mm(self) -> float:
        """Geometric unsharpness on the detector, of what lies in the middle of the object's thickness.

        References:
            EN ISO 17636-1 and -2: focal spot times object-to-detector distance over source-to-object distance. There
            the object-to-detector distance is taken from the source side, which gives the worst case.
        """
        return self.focal_spot_mm * self.middle_to_detector_mm / self.source_to_middle_mm

    @property
    def focal_blur_mm(self) -> float:
        """Standard deviation, in the object plane, of the Gaussian that stands for the focal spot.

        A uniform spot of width u has the standard deviation u / sqrt(12); blurs of equal variance look alike once
        others are added. Seen in the object plane it is smaller by the magnification.
        """
        return self.unsharpness_mm / self.magnification / float(np.sqrt(12.0))

    def transmit(self, path_mm: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Look up the share of the open beam's signal that is left behind base metal, scattered radiation apart.

        Args:
            path_mm: Base metal along the beam; below 0 counts as 0, beyond the table as its end, where the scattered
                radiation drowns what is left.
        """
        return look_up(self.table, path_mm, self.step_mm)

    def equivalent_mm(self, material: str) -> float:
        """Find the base metal that attenuates like 1 mm of a material, in the beam hardened by the sound plate.

        Exact for gas and for base metal; of first order in the thickness for the others, whose own hardening of the
        beam is left out.

        Args:
            material: Gas, metal (the base metal) or one of ``MATERIALS``.

        Raises:
            KeyError: If the material is not known.
        """
        if material == GAS:
            return 0.0
        if material == METAL:
            return 1.0
        behind_plate = harden(self.spectrum, self.material, self.nominal_path_mm)
        return effective_per_mm(behind_plate, material) / effective_per_mm(behind_plate, self.material)

    def quanta_per_mm2(self, milliampere_seconds: float) -> float:
        """Compute the absorbed quanta of the open beam on a square millimetre of the object plane.

        It is the number of equal quanta whose Poisson noise is that of the energy-integrating detector behind the
        sound plate, carried back to the open beam: times ``signal`` it gives expected counts with the right noise.

        Args:
            milliampere_seconds: Tube current times exposure time, in mA s.
        """
        energy = self.spectrum.energy_kev
        behind_plate = energy * harden(self.spectrum, self.material, self.nominal_path_mm).quanta_per_mm2
        mean_kev = _total(energy * behind_plate) / _total(behind_plate)
        at_1_m = _total(energy * self.spectrum.quanta_per_mm2) / mean_kev
        nearer = 1000.0 / self.source_to_middle_mm
        return milliampere_seconds * at_1_m * nearer * nearer

    def field(self, image_hw: tuple[int, int], pixel_pitch_mm: float) -> Float[np.ndarray, "height width"]:
        """Compute the open beam over the film relative to its brightest: inverse square law and heel effect.

        The tube's axis lies along the weld. A thin detector absorbs in proportion to the path of a slanting ray in
        it, so that no cosine is left beside the square of the distance.

        Args:
            image_hw: Film height and width, in pixels.
            pixel_pitch_mm: Pixel pitch, in mm.
        """
        y_mm, x_mm = ((np.arange(size) + 0.5 - size / 2.0) * pixel_pitch_mm for size in image_hw)
        distance = self.source_to_middle_mm
        off_middle = x_mm / (image_hw[1] * pixel_pitch_mm / 2.0) - self.heel_middle
        farther = 1.0 + abs(self.heel_middle)
        heel = 1.0 - self.heel_fall * (off_middle / farther) * (off_middle / farther)
        squares = (distance * distance + y_mm * y_mm)[:, None] + (x_mm * x_mm)[None, :]
        return (distance * distance * heel)[None, :] / squares

    def signal(
        self,
        path_mm: Float[np.ndarray, "height width"],
        pixel_pitch_mm: float,
        field: Float[np.ndarray, "height width"],
    ) -> Float[np.ndarray, "height width"]:
        """Compute what reaches the detector, relative to the open beam's brightest point.

        Args:
            path_mm: Base metal along the beam.
            pixel_pitch_mm: Pixel pitch, in mm.
            field: What ``field`` gives for this film.

        Returns:
            Field times the sum of the primary radiation, blurred by the focal spot, and the scattered.
        """
        primary = self.transmit(path_mm)
        # Metal scatters, in proportion to its optical depth: beside a pipe there is much radiation and no metal.
        scattered = np.clip(path_mm, 0.0, self.step_mm * (len(self.table) - 1))
        scattered *= primary
        scattered = spread_scatter(scattered, self.scatter_width_mm / pixel_pitch_mm)
        scattered *= self.scatter_ratio / self.nominal_path_mm
        scattered += blur(primary, self.focal_blur_mm / pixel_pitch_mm)
        scattered *= field
        return scattered


def draw_beam(
    rng: np.random.Generator, params: BeamParams, material: str, path_mm: float, wall_mm: float | None = None
) -> Beam:
    """Draw the beam for a plate, with the tube voltage that the plate's thickness asks for.

    Args:
        rng: Source of the draws.
        params: Their ranges.
        material: Base metal.
        path_mm: Base metal along the beam through the sound plate, in mm.
        wall_mm: Of a pipe, the thickness of the wall on the detector's side, in mm: it bears the weld, and its distance
            from the detector is what blurs the weld. None for a plate, where it is the path.
    """
    wanted_depth = uniform_in(rng, params.optical_depth)
    tube_kv = choose_tube_kv(params.tube_kv, params.filter_mm_copper, material, path_mm, wanted_depth)
    spectrum = tube_spectrum(tube_kv, params.filter_mm_copper)
    depth = path_mm * effective_per_mm(harden(spectrum, material, path_mm), material)
    # Long enough for reinforcements and for lead letters: eight optical depths behind the plate.
    longest_mm = max(1.6 * path_mm + 5.0, path_mm * (1.0 + 8.0 / depth))
    step_mm = longest_mm / (TABLE_KNOTS - 1)
    per_mm = attenuation_per_mm(material, spectrum)
    return Beam(
        material=material,
        nominal_path_mm=path_mm,
        wall_mm=path_mm if wall_mm is None else wall_mm,
        tube_kv=tube_kv,
        optical_depth=depth,
        spectrum=spectrum,
        step_mm=step_mm,
        table=transmission_table(spectrum.signal_share, per_mm, step_mm, TABLE_KNOTS),
        source_to_object_mm=uniform_in(rng, params.source_to_object_mm),
        gap_mm=uniform_in(rng, params.gap_mm),
        focal_spot_mm=uniform_in(rng, params.focal_spot_mm),
        scatter_ratio=uniform_in(rng, params.scatter_per_optical_depth) * depth,
        scatter_width_mm=params.scatter_width_mm,
        heel_fall=uniform_in(rng, params.field_fall),
        heel_middle=uniform(rng, -0.5, 0.5),
    )


def choose_tube_kv(
    tube_kv: Sequence[float], filter_mm_copper: float, material: str, path_mm: float, wanted_depth: float
) -> float:
    """Find the tube voltage at which a plate has nearly a wanted optical depth.

    Args:
        tube_kv: Range of the voltage; those of ``tube_voltages`` are tried.
        filter_mm_copper: Copper filter, in mm.
        material: Base metal.
        path_mm: Base metal along the beam, in mm.
        wanted_depth: Wanted optical depth; it falls with the voltage.
    """
    voltages = tube_voltages(tube_kv)

    def depth(index: int) -> float:
        behind_plate = harden(tube_spectrum(voltages[index], filter_mm_copper), material, path_mm)
        return path_mm * effective_per_mm(behind_plate, material)

    low, high = 0, len(voltages) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if depth(middle) > wanted_depth else (low, middle)
    return voltages[min((low, high), key=lambda index: abs(depth(index) - wanted_depth))]


def tube_voltages(tube_kv: Sequence[float]) -> list[float]:
    """List the whole multiples of 20 kV in a range, so that few spectra are needed; its lower end where it has none."""
    first, last = int(np.ceil(tube_kv[0] / STEP_KV)), int(np.floor(tube_kv[1] / STEP_KV))
    return [STEP_KV * steps for steps in range(first, last + 1)] or [float(tube_kv[0])]


def harden(spectrum: Spectrum, material: str, path_mm: float) -> Spectrum:
    """Compute the spectrum behind a thickness of a material, in mm."""
    left = exp(-path_mm * attenuation_per_mm(material, spectrum))
    return Spectrum(spectrum.energy_kev, spectrum.quanta_per_mm2 * left)


def effective_per_mm(spectrum: Spectrum, material: str) -> float:
    """Compute the effective attenuation coefficient: the signal's relative loss for the next thin layer, per mm."""
    return _total(spectrum.signal_share * attenuation_per_mm(material, spectrum))


def tube_spectrum(tube_kv: float, filter_mm_copper: float) -> Spectrum:
    """Look up the spectrum of a tungsten tube as a detector with a Gd2O2S screen absorbs it, computed at first use.

    Args:
        tube_kv: Tube voltage, in kV.
        filter_mm_copper: Copper filter before the tube, in mm, added to the window of 1 mm of beryllium.

    References:
        Poludniowski et al. 2021, Medical Physics 48, 3630 (SpekPy v2).
        Hubbell and Seltzer, NISTIR 5632 (attenuation coefficients, with coherent scattering).
    """
    key = (tube_kv, filter_mm_copper)
    if key not in _spectra:
        _spectra[key] = _compute_spectrum(*key)
    return _spectra[key]


def learn_spectra(spectra: Spectra) -> None:
    """Take over spectra that another process computed, so that ``tube_spectrum`` has them."""
    _spectra.update(spectra)


def _compute_spectrum(tube_kv: float, filter_mm_copper: float) -> Spectrum:
    import spekpy

    tube = spekpy.Spek(kvp=tube_kv, th=ANODE_ANGLE_DEG, dk=BIN_KEV, z=100.0, mas=1.0, mu_data_source="nist")
    tube.multi_filter((("Be", WINDOW_MM_BERYLLIUM), ("Cu", filter_mm_copper)))
    energy_kev, quanta_per_cm2 = tube.get_spectrum(diff=False)
    absorbed = 1.0 - np.exp(-SCREEN_G_CM2 * _mass_attenuation_cm2_g(SCREEN_SHARES, energy_kev))
    return Spectrum(_six_digits(energy_kev), _six_digits(quanta_per_cm2 * absorbed / 100.0))


def attenuation_per_mm(material: str, spectrum: Spectrum) -> Float[np.ndarray, " bins"]:
    """Look up the linear attenuation coefficient of one of ``MATERIALS`` at the energies of a spectrum, per mm.

    Raises:
        KeyError: If the material is not known.
    """
    return _attenuation_per_mm(material, tuple(spectrum.energy_kev.tolist()))


def transmission_table(
    signal_share: Float[np.ndarray, " bins"], per_mm: Float[np.ndarray, " bins"], step_mm: float, knots: int
) -> Float[np.ndarray, " knots"]:
    """Tabulate the share of the signal that is left behind 0, 1, 2, ... steps: the Beer-Lambert law in each bin.

    Args:
        signal_share: Share of each energy bin in the open beam's signal.
        per_mm: Attenuation coefficient in each bin.
        step_mm: Distance of the knots, in mm.
        knots: Number of knots.
    """
    table = np.zeros(knots)
    factors = np.empty(knots)
    for share, factor in zip(signal_share, exp(-step_mm * per_mm), strict=True):
        factors[0], factors[1:] = share, factor
        table += np.multiply.accumulate(factors)
    return table


def look_up(
    table: Float[np.ndarray, " knots"], x: Float[np.ndarray, "*shape"], step: float
) -> Float[np.ndarray, "*shape"]:
    """Interpolate linearly in a table; beyond its ends its first and last values hold.

    Args:
        table: Values at 0, 1, 2, ... steps.
        x: Where to look, in the unit of the step.
        step: Distance of the knots.
    """
    rise = np.zeros_like(table)
    rise[:-1] = table[1:] - table[:-1]
    result = np.empty(x.shape)
    places, results = x.reshape(-1), result.reshape(-1)
    scale, end = 1.0 / step, float(len(table) - 1)
    for start in range(0, places.size, BLOCK):
        place = np.clip(places[start : start + BLOCK] * scale, 0.0, end)
        knot = place.astype(np.intp)
        place -= knot
        place *= rise.take(knot, mode="clip")
        np.add(place, table.take(knot, mode="clip"), out=results[start : start + BLOCK])
    return result


def spread_scatter(image: Float[np.ndarray, "height width"], sigma_px: float) -> Float[np.ndarray, "height width"]:
    """Blur widely, on the means of blocks of pixels, with bilinear interpolation between the blocks' middles.

    Args:
        image: Any values; edges are replicated.
        sigma_px: Standard deviation, in pixels.
    """
    block = max(1, int(np.floor(sigma_px / BLOCKS_PER_SCATTER_SIGMA)))
    means = _mean_of_rows(_mean_of_rows(image, block).T, block).T
    coarse = wide_blur(means, sigma_px / block)
    along = _between_rows(np.ascontiguousarray(coarse.T), block, image.shape[1]).T
    return _between_rows(np.ascontiguousarray(along), block, image.shape[0])


def _mean_of_rows(image: Float[np.ndarray, "rows columns"], block: int) -> Float[np.ndarray, "blocks columns"]:
    """Average blocks of rows; the last row fills up the last block."""
    first = np.arange(0, len(image), block)
    total = image[first]
    for offset in range(1, block):
        total += image[np.minimum(first + offset, len(image) - 1)]
    return total / block


def _between_rows(
    coarse: Float[np.ndarray, "blocks columns"], block: int, rows: int
) -> Float[np.ndarray, "rows columns"]:
    """Interpolate linearly between the middles of blocks of rows."""
    place = np.clip((np.arange(rows) + 0.5) / block - 0.5, 0.0, len(coarse) - 1.0)
    left = np.minimum(place.astype(np.intp), max(len(coarse) - 2, 0))
    share = place - left
    rise = np.zeros_like(coarse)
    rise[:-1] = coarse[1:] - coarse[:-1]
    result = rise[left]
    result *= share[:, None]
    result += coarse[left]
    return result


@cache
def _attenuation_per_mm(material: str, energy_kev: tuple[float, ...]) -> Float[np.ndarray, " bins"]:
    density_g_cm3, shares = MATERIALS[material]
    return _six_digits(density_g_cm3 / 10.0 * _mass_attenuation_cm2_g(shares, np.array(energy_kev)))


def _mass_attenuation_cm2_g(
    shares: dict[int, float], energy_kev: Float[np.ndarray, " bins"]
) -> Float[np.ndarray, " bins"]:
    """Mix the elements' mass attenuation coefficients by their shares of mass."""
    total = np.zeros(len(energy_kev))
    for atomic_number, share in shares.items():
        total += share * _nist_coefficients().get_mu_over_rho(atomic_number, energy_kev)
    return total


@cache
def _nist_coefficients() -> Any:  # noqa: ANN401 - SpekPy has no types
    from spekpy.SpekTools import load_mu_data

    return load_mu_data("nist")[0]


def _six_digits(values: Float[np.ndarray, " values"]) -> Float[np.ndarray, " values"]:
    return np.array([float(f"{value:.6g}") for value in values])


def _total(values: Float[np.ndarray, " values"]) -> float:
    """Add one after the other; NumPy's sum has another order on every CPU."""
    return float(np.add.accumulate(values)[-1])
