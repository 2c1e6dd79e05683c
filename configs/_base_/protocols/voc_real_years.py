"""A protocol whose domains the config lists, here the years of the photographs of Pascal VOC.

A domain-incremental walk over fixed classes: each step brings the images of another domain.
Here file names tell the year (2007_000032), so a shell pattern finds a domain; a text file of
image names (list_file) does as well. Years hardly differ in appearance: it shows how such a
protocol is written, not a hard one.
"""

protocol = dict(
    name='voc_real_years',
    dataset='voc',
    domains=[
        dict(name='2007 and 2008', pattern=['2007_*', '2008_*']),
        dict(name='2009', pattern='2009_*'),
        dict(name='2010', pattern='2010_*'),
        dict(name='2011', pattern='2011_*'),
    ],
    domain_steps=[['2007 and 2008'], ['2009'], ['2010', '2011']],
    preset='default',
)
