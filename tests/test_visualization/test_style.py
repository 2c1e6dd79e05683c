"""The files of a figure."""

import io
import re
import zlib

import pytest
from fontTools.subset import Options
from fontTools.ttLib import TTFont
from matplotlib.font_manager import findfont

from mmseg_cil.visualization.style import new_figure, save_figure, styled


def streams(content):
    """The streams of a PDF, decompressed."""
    for found in re.finditer(rb'stream\r?\n(.*?)\r?\nendstream', content, re.DOTALL):
        try:
            yield zlib.decompress(found[1])
        except zlib.error:
            yield found[1]


def outline(font, name):
    glyphs = font['glyf']
    return list(glyphs[name].getCoordinates(glyphs)[0]), font['hmtx'][name]


@pytest.mark.usefixtures('with_pdfs')
def test_a_pdf_embeds_the_glyphs_of_its_text_and_no_rules(tmp_path):
    before = list(Options().drop_tables)
    with styled():
        figure, axes = new_figure(3, 2)
        axes.set_xlabel('cat AV')
        save_figure(figure, tmp_path / 'figure.svg')
    assert Options().drop_tables == before
    pdf = (tmp_path / 'figure.pdf').read_bytes()
    fonts = [TTFont(io.BytesIO(each)) for each in streams(pdf) if each[:4] == b'\x00\x01\x00\x00']
    whole, embedded = TTFont(findfont('DejaVu Sans')), set()
    for font in fonts:
        names = set(font.getGlyphOrder())
        assert len(names) < 40 and not {'GPOS', 'GSUB', 'GDEF', 'kern'} & set(font.keys())
        for name in names & set('catAV'):
            assert outline(font, name) == outline(whole, name)
        embedded |= names
    assert fonts and embedded >= {'c', 'a', 't', 'A', 'V'}
