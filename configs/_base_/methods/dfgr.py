"""DF-GR: a generator, trained without data, replays the old classes (Choi et al., 2021).

configs/dfgr/README.md tells what is official and what is ours.
"""

method = dict(
    name='dfgr',
    by_protocol='dfgr',  # distillers
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    classifier_init='balanced',
    sub_steps=[
        dict(
            type='GeneratorSubStep',
            name='generator',
            batch_size=8,
            lr=2e-3,
            replay=dict(ratio=0.5, cache=0),
        ),
    ],
)
