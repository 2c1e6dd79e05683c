"""Which official code trained a method, with which choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MIB, PLOP, RCIL = 'fcdl94/MiB', 'arthurdouillard/CVPR2021_PLOP', 'zhangchbin/RCIL'


@dataclass(frozen=True)
class Frame:
    """What surrounds a method in the code that its published figures are from.

    The figures of MiB's paper are from MiB's code, those of PLOP's and RCIL's papers from theirs,
    which began as copies of it. Where a method is in several, it is as in the first that has
    the protocol.

    Attributes:
        code: Repository of the official code; empty where none of the method is public and only
            the network, the data and the schedule are those of the others.
        method: Its piece in ``configs/_base_/methods``; empty: the config's own.
        preset: Preset of the protocol: how void, unseen classes and means are treated.
        model: Its piece in ``configs/_base_/models``.
        changes: Values of the method, by dotted key.
        half: Whether its scripts train in apex's mixed precision (``--opt_level O1``).
    """

    code: str
    method: str = ''
    preset: str = 'mib'
    model: str = 'deeplabv3_r101_paper'
    changes: Mapping[str, Any] = field(default_factory=dict)
    half: bool = False


#: New rows of a classifier begin as those of a new convolution.
_CONV = {'classifier_init': 'conv_default'}

#: By the name of a method's piece.
FRAMES: Mapping[str, Frame] = {
    'finetune': Frame(MIB, 'finetune', changes=_CONV),
    'joint': Frame(MIB, 'joint'),
    'lwf': Frame(MIB, 'lwf', changes=_CONV),
    'lwf_mc': Frame(MIB, 'lwf_mc', changes=_CONV),
    'ilt': Frame(MIB, 'ilt', changes=_CONV),
    'mib': Frame(MIB, 'mib'),
    'plop': Frame(PLOP, 'plop_paper', 'plop', half=True),
    'plop_paper': Frame(PLOP, 'plop_paper', 'plop', half=True),
    'rcil': Frame(
        RCIL,
        'rcil',
        'plop',
        'deeplabv3_r101_paper_rcil',
        {'network_change.eps_again': 1e-5},
        half=True,
    ),
}


#: What MiB's code has tasks for; of other protocols the figures are from PLOP's and RCIL's.
MIB_PROTOCOLS = (
    'voc_19-1',
    'voc_15-5',
    'voc_15-1',
    'voc_joint',
    'ade20k_100-50',
    'ade20k_100-10',
    'ade20k_50-50',
    'ade20k_joint',
)


def find_frame(method: str, protocol: str) -> Frame:
    """Return the frame of a method on a protocol.

    A method without official code in this frame gets that of PLOP, with its own parts.

    Args:
        method: Name of its piece.
        protocol: Name.
    """
    frame = FRAMES.get(method, Frame('', '', 'plop', half=True))
    if frame.code == MIB and protocol not in MIB_PROTOCOLS:
        return replace(frame, code=PLOP, preset='plop', half=True)
    return frame
