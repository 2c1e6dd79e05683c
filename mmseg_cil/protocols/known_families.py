"""The families of protocols that this package knows."""

from __future__ import annotations

from mmseg_cil.protocols.build import cities, sized_classes
from mmseg_cil.protocols.families import PROTOCOLS, Family

for _family in (
    Family(
        'voc',
        sized_classes,
        (
            '11-5',
            '11-1',
            '1-1',
            '19-1',
            '15-5',
            '15-1',
            '10-1',
            '10-5',
            '5-3',
            '2-1',
            '2-2',
            'joint',
        ),
        dict(dataset='voc12aug', schedule='voc'),
    ),
    Family(
        'ade20k',
        sized_classes,
        ('100-50', '100-10', '100-5', '50-50', 'joint'),
        dict(dataset='ade20k'),
    ),
    Family(
        'cityscapes',
        sized_classes,
        ('14-1', '10-1', '13-6', '10-9', 'joint'),
        dict(dataset='cityscapes'),
    ),
    Family(
        'cityscapes_domain',
        cities,
        ('11-5', '11-1', '1-1', 'joint'),
        dict(dataset='cityscapes'),
        by_domain=True,
    ),
    Family(
        'voc_real',
        pieces=dict(dataset='voc_real_160', schedule='voc_real', model='deeplabv3_r50-caffe'),
    ),
    Family(
        'embedded',
        pieces=dict(dataset='embedded_shapes', schedule='demo', model='fcn_r18-thin'),
    ),
):
    PROTOCOLS.register(_family)

NAMED = PROTOCOLS.named()
"""Names in common use; any other ``X-Y`` that fits the dataset works too."""
