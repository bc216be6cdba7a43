"""What data leave open: networks that agree on them and differ elsewhere, and the experiments that tell them apart.

known          what was seen of the field, and the path that all networks share
posterior      neurons and what was seen -> weights drawn from their posterior
rivals         other dynamics on the same path, each under an input of its own
members        the networks of an ensemble as arrays over `network`, and back
asked          fixed points, gain, Jacobian, overlaps, connectivity of each network
verdict        intervals over the networks, and what is the same in all
ensemble       `equivalent_networks`
perturbations  `suggest_perturbations`
"""

from nwb_lrrnn.models.least_squares.equivalents.ensemble import equivalent_networks
from nwb_lrrnn.models.least_squares.equivalents.members import network_of
from nwb_lrrnn.models.least_squares.equivalents.perturbations import suggest_perturbations

__all__ = ["equivalent_networks", "network_of", "suggest_perturbations"]
