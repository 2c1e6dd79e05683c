"""Peers with the factors that were best on held-out images, on the test images, light setting.

The factors are the best of balanced_factors.py in the mean of "all" over the later steps, one seed;
RCIL's published ones were. ``mib_parts`` and ``mib_recipe`` are MiB with parts of VDFD's recipe.

    python tools/grid.py benchmarks/light/balanced_tuned.py --work-dir work_dirs/balanced_tuned
"""

_base_ = './balanced_factors.py'
_chosen = (
    'finetune',
    'mib',
    'rcil',
    'lwf_times10',
    'ilt_times10',
    'mib_times3',
    'plop_times10',
    'dfd_times100',
    'mib_parts',
    'mib_recipe',
    'vdfd',
)
grid = dict(
    methods=[
        method
        for method in _base_.grid.methods
        if (method if isinstance(method, str) else method['name']) in _chosen
    ]
)
