"""RCIL on Cityscapes by city (scripts/cityscapesDomain, --method FT): the cube alone."""

method = dict(
    distillers=[
        dict(
            type='PooledCubeDistiller',
            factor=5e-4,
            last_factor=1e-4,
            channel_factor=1e-4,
            channel_last_factor=0.0,
        )
    ]
)
