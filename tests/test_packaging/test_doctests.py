"""The examples in docstrings are true."""

import doctest
import importlib

import pytest

MODULES = {
    'mmseg_cil.datasets.transforms': 1,
    'mmseg_cil.engine.step_line': 1,
    'mmseg_cil.evaluation.confusion': 1,
    'mmseg_cil.evaluation.confusion_shares': 1,
    'mmseg_cil.evaluation.continual': 2,
    'mmseg_cil.losses.hidden_classes': 1,
    'mmseg_cil.memory.selection': 1,
    'mmseg_cil.methods.awt.reference': 4,
    'mmseg_cil.methods.dkd_decomposed.reference': 3,
    'mmseg_cil.methods.ewf.reference': 2,
    'mmseg_cil.methods.hinge.reference': 1,
    'mmseg_cil.methods.mib.reference': 2,
    'mmseg_cil.methods.nest.reference': 3,
    'mmseg_cil.methods.plop.reference': 1,
    'mmseg_cil.methods.sdr.reference': 1,
    'mmseg_cil.methods.ucd.reference': 2,
    'mmseg_cil.methods.star.reference': 2,
    'mmseg_cil.models.classifier': 1,
    'mmseg_cil.protocols.build': 1,
    'mmseg_cil.protocols.policy': 1,
    'mmseg_cil.utils.harmonic': 1,
    'mmseg_cil.utils.step_context': 2,
    'mmseg_cil.visualization.style': 1,
    'mmseg_cil.visualization.table_formats': 1,
    'mmseg_cil.visualization.tables': 1,
}


@pytest.mark.parametrize('name', MODULES)
def test_examples_of_a_module(name):
    module = importlib.import_module(name)
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert len(found) == MODULES[name]
    assert doctest.testmod(module).failed == 0
