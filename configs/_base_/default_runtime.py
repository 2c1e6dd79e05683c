"""Settings that every run shares: scope, processes, hooks, log and seed."""

default_scope = 'mmseg_cil'
# nccl needs a GPU a process; without one the tools start gloo.
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# A walk saves the state of a step in training at the checkpoint hook's interval (and after
# max_minutes, 10 by default), as one file that is replaced whole and removed after the step.
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1000),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=42)
log_level = 'INFO'
