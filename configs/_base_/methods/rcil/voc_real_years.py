"""RCIL on VOC by year: the cube alone, as by city, with the factors of VOC. Ours."""

method = dict(
    distillers=[
        dict(
            type='PooledCubeDistiller',
            factor=0.01,
            last_factor=5e-4,
            channel_factor=0.01,
            channel_last_factor=5e-4,
        )
    ]
)
