"""DF-GR with DT-ID: an old and a new segmentor teach (Choi et al., 2021).

configs/dfgr_dtid/README.md tells what is official and what is ours.
"""

method = dict(
    name='dfgr_dtid',
    by_protocol='dfgr_dtid',  # distillers
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
        dict(type='NewDataSubStep', name='new_data', init='last_step'),
    ],
)
