"""Fixtures that the tests of reports share."""

import pytest

from mmseg_cil.visualization import style


@pytest.fixture
def with_pdfs():
    """Asks for PDF files, too."""


@pytest.fixture(autouse=True)
def no_pdfs(request, monkeypatch):
    """Tests that look at no PDF do without: a PDF takes longer than the rest of a report."""
    if 'with_pdfs' not in request.fixturenames:
        monkeypatch.delitem(style.FORMATS, 'pdf')
