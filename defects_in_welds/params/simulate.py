"""The schema of section ``simulate``: what is drawn for each simulated film, and from which ranges.

A range is a pair ``[low, high]``; a value is drawn between them for each weld, film or flaw. ``docs/simulation.md``
gives the equations and the sources of the ranges.
"""

from dataclasses import dataclass

from defects_in_welds.params.checks import require, require_positive, require_ranges, require_seed, require_share

BASE_MATERIALS = ("steel", "stainless steel", "aluminium", "titanium")
PREPARATIONS = ("V", "X")
LEAST_SIDE_PX = 128
FLAT_FLAWS = ("longitudinal_crack", "transverse_crack", "lack_of_sidewall_fusion", "lack_of_penetration")


@dataclass
class BeamParams:
    """Source and geometry.

    Attributes:
        tube_kv: Range of the tube voltage, in kV. The voltage is chosen so that the plate has the optical depth below.
        optical_depth: Range of the plate's effective attenuation coefficient times its thickness.
        filter_mm_copper: Copper filter before the tube, in mm.
        source_to_object_mm: Range of the distance from the focal spot to the upper surface of the plate, or of the
            pipe's wall that bears the weld, in mm.
        gap_mm: Range of the distance from the lower surface of the plate or of that wall to the detector, in mm.
        focal_spot_mm: Range of the focal spot's width, in mm.
        scatter_per_optical_depth: Scattered over primary radiation behind the plate, per unit of optical depth.
        scatter_width_mm: Standard deviation of the scattered radiation's spread, in mm.
        field_fall: Range of the loss of intensity from the brightest point to the film's ends (heel effect).
    """

    tube_kv: list[float]
    optical_depth: list[float]
    filter_mm_copper: float
    source_to_object_mm: list[float]
    gap_mm: list[float]
    focal_spot_mm: list[float]
    scatter_per_optical_depth: list[float]
    scatter_width_mm: float
    field_fall: list[float]

    def __post_init__(self) -> None:
        """Check the values."""
        name = "simulate.beam"
        require_ranges(self, name, "tube_kv", least=40, most=450)
        require_ranges(self, name, "optical_depth", least=0.1, most=6)
        require_ranges(self, name, "source_to_object_mm", least=50)
        require_ranges(self, name, "gap_mm", "focal_spot_mm", "scatter_per_optical_depth")
        require_ranges(self, name, "field_fall", most=0.9)
        require(0 <= self.filter_mm_copper <= 10, f"{name}.filter_mm_copper", self.filter_mm_copper, "0 to 10 mm")
        require_positive(self, name, "scatter_width_mm")


@dataclass
class WeldParams:
    """The sound weld.

    Attributes:
        materials: Base metals to draw from: steel, stainless steel, aluminium, titanium.
        plate_mm: Range of the plate or wall thickness, in mm.
        pipe_share: Share of welds in pipe, taken through both walls; the others are in plate.
        pipe_diameter_mm: Range of the pipe's outer diameter, in mm.
        preparations: Groove shapes to draw from: V (from one side) and X (from both).
        groove_angle_deg: Range of the groove's included angle, in degrees.
        cap_width_mm: Range of the cap's width beyond what the groove needs, in mm.
        cap_height_mm: Range of the cap's reinforcement, in mm.
        root_width_mm: Range of the root bead's width, in mm.
        root_height_mm: Range of the root's reinforcement, in mm.
        ripple_mm: Range of the distance of the ripples on the cap, in mm.
        ripple_height: Range of the ripples' height as a share of the cap's.
        weaving_mm: Range of how far the weld's middle wanders, in mm.
        misalignment_mm: Range of the step between the two plates' lower surfaces, in mm.
        unevenness: Range of the slow relative change of width and height along the weld.
        spatter_per_100_mm: Range of the mean number of spatter drops on 100 mm of weld.
    """

    materials: list[str]
    plate_mm: list[float]
    pipe_share: float
    pipe_diameter_mm: list[float]
    preparations: list[str]
    groove_angle_deg: list[float]
    cap_width_mm: list[float]
    cap_height_mm: list[float]
    root_width_mm: list[float]
    root_height_mm: list[float]
    ripple_mm: list[float]
    ripple_height: list[float]
    weaving_mm: list[float]
    misalignment_mm: list[float]
    unevenness: list[float]
    spatter_per_100_mm: list[float]

    def __post_init__(self) -> None:
        """Check the values."""
        name = "simulate.weld"
        for key, known in (("materials", BASE_MATERIALS), ("preparations", PREPARATIONS)):
            values = getattr(self, key)
            holds = len(values) > 0 and set(values) <= set(known)
            require(holds, f"{name}.{key}", list(values), f"some of {', '.join(known)}")
        require_ranges(self, name, "plate_mm", least=1, most=100)
        require_share(self, name, "pipe_share")
        require_ranges(self, name, "pipe_diameter_mm", least=50)
        require_ranges(self, name, "groove_angle_deg", least=20, most=120)
        require_ranges(self, name, "ripple_mm", least=0.2)
        require_ranges(self, name, "ripple_height", "unevenness", most=0.5)
        require_ranges(self, name, "cap_width_mm", "cap_height_mm", "root_width_mm", "root_height_mm")
        require_ranges(self, name, "weaving_mm", "misalignment_mm", "spatter_per_100_mm")


@dataclass
class FlawParams:
    """One class of flaws. Sizes are drawn log-uniformly: small flaws are more frequent than large ones.

    Attributes:
        most_per_film: Largest number on a film; it is drawn from 0 to this.
        length_mm: Range of the largest extent across the beam, in mm.
        width_mm: Range of the extent across the length, in mm: the opening of a crack; of porosity, its band's width.
        height_mm: Range of the extent along the beam, in mm; of porosity, the diameter of its pores.
        tilt_deg: Range of the angle between a flat flaw's plane and the beam, in degrees, to either side; of a lack of
            sidewall fusion, the angle to the groove's flank. Bodies without a plane have none: [0, 0].
    """

    most_per_film: int
    length_mm: list[float]
    width_mm: list[float]
    height_mm: list[float]
    tilt_deg: list[float]

    def check(self, name: str) -> None:
        """Check the values of the class of that name."""
        key = f"simulate.flaws.{name}"
        require(self.most_per_film >= 0, f"{key}.most_per_film", self.most_per_film, "0 or more")
        require_ranges(self, key, "length_mm", "width_mm", "height_mm", least=0.01)
        require_ranges(self, key, "tilt_deg", most=80)


@dataclass
class FlawsParams:
    """The flaws of a film, by class; each has its number in ISO 6520-1."""

    gas_pore: FlawParams
    uniformly_distributed_porosity: FlawParams
    clustered_porosity: FlawParams
    linear_porosity: FlawParams
    elongated_cavity: FlawParams
    worm_hole: FlawParams
    slag_inclusion: FlawParams
    tungsten_inclusion: FlawParams
    longitudinal_crack: FlawParams
    transverse_crack: FlawParams
    lack_of_sidewall_fusion: FlawParams
    lack_of_penetration: FlawParams
    undercut: FlawParams
    excess_penetration: FlawParams
    burn_through: FlawParams

    def __post_init__(self) -> None:
        """Check the values."""
        for name, flaw in vars(self).items():
            flaw.check(name)
            is_upright = name in FLAT_FLAWS or list(flaw.tilt_deg) == [0, 0]
            require(
                is_upright, f"simulate.flaws.{name}.tilt_deg", list(flaw.tilt_deg), "[0, 0]: it has no plane to tilt"
            )


@dataclass
class DigitalParams:
    """A digital detector array.

    Attributes:
        milliampere_seconds: Range of the tube current times the exposure time, in mA s.
        unsharpness_mm: Range of the detector's inherent unsharpness, in mm.
        electronic_noise_quanta: Standard deviation of the read-out noise, in quanta of a pixel.
        gain_variation: Standard deviation of what is left of the pixels' gain after calibration.
        dead_pixel_share: Share of pixels that do not answer.
    """

    milliampere_seconds: list[float]
    unsharpness_mm: list[float]
    electronic_noise_quanta: float
    gain_variation: float
    dead_pixel_share: float

    def __post_init__(self) -> None:
        """Check the values."""
        name = "simulate.digital"
        require_ranges(self, name, "milliampere_seconds", least=1e-3)
        require_ranges(self, name, "unsharpness_mm")
        for key in ("electronic_noise_quanta", "gain_variation"):
            require(getattr(self, key) >= 0, f"{name}.{key}", getattr(self, key), "0 or more")
        require_share(self, name, "dead_pixel_share")


@dataclass
class FilmParams:
    """A radiographic film and its scanner.

    Attributes:
        density: Range of the optical density behind the sound plate.
        fog_density: Density of the unexposed, developed film.
        granularity: Range of the density's standard deviation at density 2 seen through a 0.1 mm circular aperture.
        grain_mm: Range of the correlation length of the film's noise, in mm: where it has fallen to 1/e.
        scanner_unsharpness_mm: Range of the unsharpness of film and scanner together, in mm.
        scanner_noise: Standard deviation of the scanner's noise, as a share of full scale.
        density_range: Range of the density that the scanner maps to full scale, from black to white.
        streaks_per_film: Range of the mean number of scanner streaks across a film.
        scratches_per_film: Range of the mean number of scratches.
        dust_per_film: Range of the mean number of dust specks.
        water_marks_per_film: Range of the mean number of water marks.
    """

    density: list[float]
    fog_density: float
    granularity: list[float]
    grain_mm: list[float]
    scanner_unsharpness_mm: list[float]
    scanner_noise: float
    density_range: list[float]
    streaks_per_film: list[float]
    scratches_per_film: list[float]
    dust_per_film: list[float]
    water_marks_per_film: list[float]

    def __post_init__(self) -> None:
        """Check the values."""
        name = "simulate.film"
        require_ranges(self, name, "density", least=0.5, most=6)
        require(0 <= self.fog_density < 0.5, f"{name}.fog_density", self.fog_density, "0 to below 0.5")
        require_ranges(self, name, "granularity", "scanner_unsharpness_mm", "streaks_per_film", "scratches_per_film")
        require_ranges(self, name, "grain_mm", least=0.001)
        require_ranges(self, name, "density_range", least=0.5, most=6)
        require_ranges(self, name, "dust_per_film", "water_marks_per_film")
        require(self.scanner_noise >= 0, f"{name}.scanner_noise", self.scanner_noise, "0 or more")


@dataclass
class ObjectsParams:
    """What lies on the plate or shows on the film and is no flaw: the share of films with each.

    Attributes:
        lead_letters: Lead letters and arrows.
        wire_iqi: A wire image quality indicator (ISO 19232-1).
        duplex_wire: A duplex wire image quality indicator (ISO 19232-5).
        film_edges: The edges of a scanned film, and the dark bed of the scanner beyond them.
    """

    lead_letters: float
    wire_iqi: float
    duplex_wire: float
    film_edges: float

    def __post_init__(self) -> None:
        """Check the values."""
        require_share(self, "simulate.objects", *vars(self))


@dataclass
class SimulateParams:
    """Simulated radiographs of butt welds.

    Attributes:
        films: Number of films.
        seed: Seed of everything random in them.
        height_px: Film height, in pixels.
        width_px: Film width along the weld, in pixels.
        pixel_pitch_mm: Pixel pitch in the plane of the object, in mm.
        films_per_weld: Films that show one weld; they stay on one side of a split.
        defect_free_share: Share of films on which no flaw is drawn; some of the others come out without one too.
        visible_cnr: Contrast-to-noise ratio below which a flaw is marked as difficult.
        film_share: Share of radiographs on scanned film; the others are from a digital detector array.
        beam: Source and geometry.
        weld: The sound weld.
        flaws: Number and sizes of the flaws of each class.
        digital: The digital detector array.
        film: Film and scanner.
        objects: Letters and image quality indicators.
    """

    films: int
    seed: int
    height_px: int
    width_px: int
    pixel_pitch_mm: float
    films_per_weld: int
    defect_free_share: float
    visible_cnr: float
    film_share: float
    beam: BeamParams
    weld: WeldParams
    flaws: FlawsParams
    digital: DigitalParams
    film: FilmParams
    objects: ObjectsParams

    def __post_init__(self) -> None:
        """Check the values."""
        require_seed(self.seed, "simulate")
        require_positive(self, "simulate", "films", "pixel_pitch_mm", "films_per_weld")
        for key in ("height_px", "width_px"):
            value = getattr(self, key)
            require(value >= LEAST_SIDE_PX, f"simulate.{key}", value, f"at least {LEAST_SIDE_PX} pixels")
        require_share(self, "simulate", "defect_free_share", "film_share")
        require(self.visible_cnr >= 0, "simulate.visible_cnr", self.visible_cnr, "0 or more")
