"""All classes of balanced_voc.py at once, for as many iterations as its walk has."""

_base_ = './balanced_voc.py'
method = dict(name='joint')
protocol = dict(
    name='balanced_joint',
    steps=[['background', 'cat', 'person', 'cow', 'chair', 'dog', 'horse', 'sheep', 'sofa']],
)
step_overrides = {0: dict(max_iters=1080)}
grid = dict(_delete_=True, methods=['joint'], seeds=[1, 2, 3])
