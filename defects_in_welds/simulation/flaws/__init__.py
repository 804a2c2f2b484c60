"""The flaws of a weld, each drawn as a three-dimensional body in it.

A drawing function takes its sizes from the class's parameters, limits them to what the weld allows, and returns None
where the flaw has no room on the film.
"""

from collections.abc import Callable

import numpy as np

from defects_in_welds.params.simulate import FlawParams
from defects_in_welds.simulation.bodies import FlawBody
from defects_in_welds.simulation.flaws.cavities import draw_elongated_cavity, draw_gas_pore, draw_worm_hole
from defects_in_welds.simulation.flaws.cracks import draw_longitudinal_crack, draw_transverse_crack
from defects_in_welds.simulation.flaws.fusion import draw_lack_of_penetration, draw_lack_of_sidewall_fusion
from defects_in_welds.simulation.flaws.inclusions import draw_slag_inclusion, draw_tungsten_inclusion
from defects_in_welds.simulation.flaws.porosity import (
    draw_clustered_porosity,
    draw_linear_porosity,
    draw_uniformly_distributed_porosity,
)
from defects_in_welds.simulation.flaws.shape import draw_burn_through, draw_excess_penetration, draw_undercut
from defects_in_welds.simulation.weld import WeldSection

CLASS_NAMES = {
    "longitudinal_crack": "longitudinal crack in weld metal",
    "transverse_crack": "transverse crack in weld metal",
    "gas_pore": "gas pore",
    "uniformly_distributed_porosity": "uniformly distributed porosity",
    "clustered_porosity": "clustered porosity",
    "linear_porosity": "linear porosity",
    "elongated_cavity": "elongated cavity",
    "worm_hole": "worm-hole",
    "slag_inclusion": "slag inclusion",
    "tungsten_inclusion": "tungsten inclusion",
    "lack_of_sidewall_fusion": "lack of sidewall fusion",
    "lack_of_penetration": "lack of penetration",
    "undercut": "undercut",
    "excess_penetration": "excess penetration",
    "burn_through": "burn-through",
}
"""Names in the taxonomy of the classes that can be drawn, by their names among the parameters."""

FLAW_KINDS: dict[str, Callable[[np.random.Generator, WeldSection, FlawParams], FlawBody | None]] = {
    "longitudinal_crack": draw_longitudinal_crack,
    "transverse_crack": draw_transverse_crack,
    "gas_pore": draw_gas_pore,
    "uniformly_distributed_porosity": draw_uniformly_distributed_porosity,
    "clustered_porosity": draw_clustered_porosity,
    "linear_porosity": draw_linear_porosity,
    "elongated_cavity": draw_elongated_cavity,
    "worm_hole": draw_worm_hole,
    "slag_inclusion": draw_slag_inclusion,
    "tungsten_inclusion": draw_tungsten_inclusion,
    "lack_of_sidewall_fusion": draw_lack_of_sidewall_fusion,
    "lack_of_penetration": draw_lack_of_penetration,
    "undercut": draw_undercut,
    "excess_penetration": draw_excess_penetration,
    "burn_through": draw_burn_through,
}
"""Drawing functions by the class's name among the parameters, in the order of the numbers in ISO 6520-1."""
