"""The official code that trained a method, and the choices of that code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MIB, PLOP, RCIL = 'fcdl94/MiB', 'arthurdouillard/CVPR2021_PLOP', 'zhangchbin/RCIL'
LGKD = 'Ze-Yang/LGKD'
AWT = 'dfki-av/AWT-for-CISS'
NEST = 'zhengyuan-xie/ECCV24_NeST'
UCD = 'ygjwd12345/UCD'
SDR = 'LTTM/SDR'
EWF = 'schuy1er/EWF_official'
REMINDER = 'HieuPhan33/REMINDER'
DFT, CAF = 'BladeDancer957/RevisitingCSS', 'ygjwd12345/CAF'


@dataclass(frozen=True)
class Frame:
    """The settings around a method in the code that its published figures come from.

    The figures of MiB's paper come from MiB's code. The figures of the papers of PLOP, RCIL and
    AWT come from the code of these papers, which began as copies of MiB's, as did that of SDR and
    of CAF; the code of LGKD, NeST, UCD, EWF, REMINDER and DFT* began as a copy of PLOP's. A method
    that is in several of them is taken from the first that has the protocol.

    Attributes:
        code: Repository of the official code; empty where no code of the method is public and only
            the network, the data and the schedule are those of the other methods.
        method: The method's piece in ``configs/_base_/methods``; empty: the config's own method.
        preset: Preset of the protocol: how void, unseen classes and means are treated.
        model: The model's piece in ``configs/_base_/models``.
        changes: Values of the method, by dotted key.
        half: Whether the code's scripts train in apex's mixed precision (``--opt_level O1``).
    """

    code: str
    method: str = ''
    preset: str = 'mib'
    model: str = 'deeplabv3_r101_paper'
    changes: Mapping[str, Any] = field(default_factory=dict)
    half: bool = False


#: The pixels that choose the channels of a new class: the scripts of AWT call ``attribute.py``, and
#: ``attribute_class.py`` for these protocols.
_CHANNELS = 'classifier_init.classes'
_BY_CLASS = ('ade20k_100-50', 'ade20k_100-10', 'ade20k_50-50')
#: New rows of a classifier are initialised like the rows of a new convolution.
_CONV = {'classifier_init': 'conv_default'}

#: The frames by the name of a method's piece.
FRAMES: Mapping[str, Frame] = {
    'finetune': Frame(MIB, 'finetune', changes=_CONV),
    'joint': Frame(MIB, 'joint'),
    'lwf': Frame(MIB, 'lwf', changes=_CONV),
    'lwf_mc': Frame(MIB, 'lwf_mc', changes=_CONV),
    'ilt': Frame(MIB, 'ilt', changes=_CONV),
    'mib': Frame(MIB, 'mib'),
    'caf': Frame(CAF, 'caf'),
    'plop': Frame(PLOP, 'plop_paper', 'plop', half=True),
    'plop_paper': Frame(PLOP, 'plop_paper', 'plop', half=True),
    'lgkd': Frame(LGKD, 'lgkd_paper', 'plop', half=True),
    'lgkd_paper': Frame(LGKD, 'lgkd_paper', 'plop', half=True),
    'mib_ewf': Frame(EWF, 'mib_ewf_paper', 'plop', half=True),
    'mib_ewf_paper': Frame(EWF, 'mib_ewf_paper', 'plop', half=True),
    'plop_ewf': Frame(EWF, 'plop_ewf_paper', 'plop', half=True),
    'plop_ewf_paper': Frame(EWF, 'plop_ewf_paper', 'plop', half=True),
    'reminder': Frame(REMINDER, 'reminder_paper', 'plop', half=True),
    'reminder_paper': Frame(REMINDER, 'reminder_paper', 'plop', half=True),
    'rcil': Frame(
        RCIL,
        'rcil',
        'plop',
        'deeplabv3_r101_paper_rcil',
        {'network_change.eps_again': 1e-5, 'network_change.draws': 'process'},
        half=True,
    ),
    'mib_ucd': Frame(UCD, 'mib_ucd_paper', 'plop'),
    'mib_ucd_paper': Frame(UCD, 'mib_ucd_paper', 'plop'),
    'sdr': Frame(SDR, 'sdr_paper', changes=_CONV),
    'sdr_paper': Frame(SDR, 'sdr_paper', changes=_CONV),
    'dft_star': Frame(DFT, 'dft_star', 'plop', changes=_CONV, half=True),
    'mib_awt': Frame(AWT, 'mib_awt', 'plop', changes={_CHANNELS: 'together'}, half=True),
    'mib_nest': Frame(NEST, 'mib_nest_paper', 'plop', half=True),
    'mib_nest_paper': Frame(NEST, 'mib_nest_paper', 'plop', half=True),
    'plop_nest': Frame(NEST, 'plop_nest_paper', 'plop', half=True),
    'plop_nest_paper': Frame(NEST, 'plop_nest_paper', 'plop', half=True),
    # The code of these methods is no copy of MiB's: the frame is that of the other methods.
    'dkd_decomposed': Frame('', 'dkd_decomposed_paper', 'plop', half=True),
    'dkd_decomposed_paper': Frame('', 'dkd_decomposed_paper', 'plop', half=True),
    'star': Frame('', 'star_paper', 'plop', half=True),
    'star_paper': Frame('', 'star_paper', 'plop', half=True),
}


#: The protocols that MiB's code has tasks for; figures of other protocols come from PLOP's and
#: RCIL's code.
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
        method: Name of the method's piece.
        protocol: Name of the protocol.
    """
    frame = FRAMES.get(method, Frame('', '', 'plop', half=True))
    if frame.code == MIB and protocol not in MIB_PROTOCOLS:
        return replace(frame, code=PLOP, preset='plop', half=True)
    if _CHANNELS in frame.changes and protocol in _BY_CLASS:
        return replace(frame, changes={**frame.changes, _CHANNELS: 'accumulated'})
    return frame
