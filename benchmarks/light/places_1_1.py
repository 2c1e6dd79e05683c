"""The places of places.py one by one from the first, light setting.

The weight 0.01 of VDFD's penalty was chosen on held-out images after 0.1 had been seen on the test
images; both are walked.

    python tools/grid.py benchmarks/light/places_1_1.py --work-dir work_dirs/places_1_1
"""

_base_ = './places_11_1.py'
protocol = dict(name='places_1-1', domain_steps=[[place] for place in _base_.places])
step_overrides = {0: dict(max_iters=300)}
_vdfd = _base_.grid.methods[-1]
_weight = 'method.regularisers.0.loss_weight'
grid = dict(
    methods=[
        *[method for method in _base_.grid.methods[:-1] if method != 'vdfd_plain'],
        dict(_vdfd, name='vdfd_weight0.1'),
        # As vdfd/cityscapes_domain_1-1.py, which the protocol's name finds.
        dict(_vdfd, options={**_vdfd.options, _weight: 0.01}),
    ],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 1100}),
)
