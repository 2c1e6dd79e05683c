"""The places of places.py one by one after the first eleven, light setting.

python tools/grid.py benchmarks/light/places_11_1.py --work-dir work_dirs/places_11_1
"""

_base_ = './places.py'
protocol = dict(
    name='places_11-1',
    domain_steps=[_base_.places[:11], *[[place] for place in _base_.places[11:]]],
)
step_overrides = {'later': dict(max_iters=40)}
grid = dict(
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 1000}),
)
