"""Protocols: the classes or domains of every step, and the images and labels of each.

Pure Python and NumPy: neither torch nor MMSegmentation is imported.
"""

from mmseg_cil.protocols.base import SETTINGS, Protocol, Step
from mmseg_cil.protocols.build import COUNTED, build_protocol
from mmseg_cil.protocols.by_class import ClassProtocol
from mmseg_cil.protocols.by_domain import CityProtocol, Domain, DomainProtocol
from mmseg_cil.protocols.families import PROTOCOLS, Family, is_by_domain
from mmseg_cil.protocols.known_families import NAMED
from mmseg_cil.protocols.policy import PRESETS, Policy
from mmseg_cil.protocols.taxonomy import DATASETS, IGNORE, Taxonomy, known_taxonomy

__all__ = [
    'COUNTED',
    'DATASETS',
    'IGNORE',
    'NAMED',
    'PRESETS',
    'PROTOCOLS',
    'SETTINGS',
    'CityProtocol',
    'ClassProtocol',
    'Domain',
    'DomainProtocol',
    'Family',
    'Policy',
    'Protocol',
    'Step',
    'Taxonomy',
    'build_protocol',
    'is_by_domain',
    'known_taxonomy',
]
