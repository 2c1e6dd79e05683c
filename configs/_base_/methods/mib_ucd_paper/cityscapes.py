"""The official labels, which the official code has for every protocol."""

method = dict(
    distillers=[
        dict(type='LogitDistiller'),
        dict(type='PixelContrastDistiller', labels='official'),
    ]
)
