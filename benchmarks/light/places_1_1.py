"""The places of places.py one by one from the first, light setting.

python tools/grid.py benchmarks/light/places_1_1.py --work-dir work_dirs/places_1_1
"""

_base_ = './places_11_1.py'
protocol = dict(name='places_1-1', domain_steps=[[place] for place in _base_.places])
step_overrides = {0: dict(max_iters=300)}
grid = dict(
    methods=[method for method in _base_.grid.methods if method != 'vdfd_plain'],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 1100}),
)
