"""Workers of one machine keep to their threads and GPUs."""

import types

from mmseg_cil.grid import executors
from mmseg_cil.grid.executors import Job, LocalExecutor


def test_workers_have_gpus_in_turn_and_threads_of_their_own(tmp_path, monkeypatch):
    begun, ended = [], set()

    def begin(job, arguments, variables):
        begun.append((job.name, arguments[:2], variables))
        return types.SimpleNamespace(poll=lambda: 0 if job.name in ended else None)

    monkeypatch.setattr(executors, 'begin', begin)
    executor = LocalExecutor(3, 2, ['0', '3'])
    for name in 'abc':
        assert executor.has_room()
        executor.start(Job(name, (), tmp_path / name))
    assert not executor.has_room()
    ended.add('b')
    executor.start(Job('d', (), tmp_path / 'd'))
    assert not executor.has_room()
    # The place of a worker that has ended is free, with its GPU.
    assert [environment['CUDA_VISIBLE_DEVICES'] for _, _, environment in begun] == [
        '0',
        '3',
        '0',
        '3',
    ]
    assert all(arguments == ['--threads', '2'] for _, arguments, _ in begun)
    assert all(environment['OMP_NUM_THREADS'] == '2' for _, _, environment in begun)
    LocalExecutor(1, 1).start(Job('e', (), tmp_path / 'e'))
    assert 'CUDA_VISIBLE_DEVICES' not in begun[-1][2]
