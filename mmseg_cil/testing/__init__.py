"""Tests of methods: tiny data, tiny walks, kills and processes, and :func:`check_method`.

The author of a method learns with one call whether it does what all methods of this package do::

    from mmseg_cil.testing import check_method

    def test_my_method(tmp_path):
        check_method(dict(name='mine', distillers=[dict(type='MyDistiller')]), tmp_path,
                     imports=['my_package.my_distiller'])

The modules below are what the package's own tests are made of. Nothing in the package imports
them.
"""
