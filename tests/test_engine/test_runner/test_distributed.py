import datetime
import os

import pytest
import torch.distributed as torch_dist

from mmseg_cil.engine.runner.distributed import (
    batch_per_process,
    decided_by_main,
    leave_process_group,
    main_process_first,
    setup_process_group,
)
from mmseg_cil.errors import InputError
from mmseg_cil.testing.processes import run_two
from mmseg_cil.utils import main_process


def test_the_processes_share_the_batch():
    assert batch_per_process(24, 4) == 6
    assert batch_per_process(5, 1) == 5


@pytest.mark.parametrize(('batch', 'processes'), [(24, 5), (2, 4), (0, 1)])
def test_processes_that_do_not_divide_the_batch_are_refused(batch, processes):
    with pytest.raises(
        InputError, match=f'global_batch_size={batch} cannot be shared by {processes} processes'
    ):
        batch_per_process(batch, processes)


def test_a_launcher_without_its_variables_is_refused(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(InputError, match='RANK'):
        setup_process_group('pytorch')
    with pytest.raises(InputError, match='unknown --launcher'):
        setup_process_group('rocket')


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_on_gpus_the_timeout_reaches_torch_as_it_wants_it(monkeypatch, launcher):
    asked = {}

    def init_process_group(backend, **options):
        asked.update(options, backend=backend)

    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.set_device', lambda device: None)
    monkeypatch.setattr(torch_dist, 'init_process_group', init_process_group)
    # MMEngine sets variables of its own, which end with the test.
    monkeypatch.setattr(
        'os.environ',
        {
            **os.environ,
            'RANK': '0',
            'LOCAL_RANK': '0',
            'WORLD_SIZE': '1',
            'MASTER_ADDR': 'node',
            'SLURM_PROCID': '0',
            'SLURM_NTASKS': '1',
            'SLURM_NODELIST': 'node',
            'SLURM_LOCALID': '0',
            'OMPI_COMM_WORLD_RANK': '0',
            'OMPI_COMM_WORLD_LOCAL_RANK': '0',
            'OMPI_COMM_WORLD_SIZE': '1',
            'MASTER_PORT': '1',
        },
    )
    monkeypatch.setattr('subprocess.getoutput', lambda command: 'node')
    setup_process_group(launcher, timeout_s=5400)
    assert asked['backend'] == 'nccl'
    assert asked['timeout'] == datetime.timedelta(minutes=90)


def test_one_process_works_once():
    calls = []
    assert main_process_first(lambda: calls.append(1) or 'done') == 'done'
    assert calls == [1]
    assert decided_by_main(lambda: 'there') == 'there'


#: A tool of two processes.
BODY = """
import os, signal, sys
from mmengine.dist import all_reduce, barrier, get_rank
import torch
import torch.distributed as torch_dist
from mmseg_cil.engine.runner.distributed import decided_by_main, main_process_first, process_group
from mmseg_cil.errors import InputError
from mmseg_cil.utils.cli import run_tool

def fail(error):
    raise error

def main():
    with process_group('pytorch'):
        all_reduce(torch.ones(3))
        {body}
    assert not torch_dist.is_initialized()

run_tool(main)
"""


def statuses(body, tmp_path):
    return run_two(['-c', BODY.format(body=body)], tmp_path / 'log', timeout=120)


@pytest.mark.walk
def test_a_group_is_left_in_order(tmp_path):
    body = "print('found', decided_by_main(lambda: f'by {get_rank()}'))"
    for status, output in statuses(body, tmp_path):
        assert status == 0 and 'found by 0' in output, output


@pytest.mark.walk
def test_wrong_input_on_the_main_process_ends_all_with_status_2(tmp_path):
    # A process that has not been ended by then tells the error itself.
    patience = "setattr(sys.modules['mmseg_cil.utils.cli'], '_PATIENCE', 1.0)"
    body = f"{patience}; main_process_first(lambda: fail(InputError('no such file')))"
    for status, output in statuses(body, tmp_path):
        assert status == 2 and 'error: no such file' in output, output


def test_any_failure_of_the_main_process_is_told_to_the_others(monkeypatch):
    def receive(answer):
        answer[:] = [None, 'KeyError: lost', False]

    monkeypatch.setattr(main_process, 'get_rank', lambda: 1)
    monkeypatch.setattr(main_process, 'broadcast_object_list', receive)
    with pytest.raises(RuntimeError, match='the main process failed: KeyError: lost'):
        decided_by_main(lambda: 'not called here')


@pytest.mark.walk
def test_nobody_waits_for_a_dead_process(tmp_path):
    body = 'os.kill(os.getpid(), signal.SIGKILL) if get_rank() == 0 else barrier()'
    (killed, _), (status, output) = statuses(body, tmp_path)
    assert killed == -9
    # An exception and its status: not SIGABRT, which a thread of the group's may cause.
    assert status == 1 and 'Traceback' in output


def test_a_failed_process_does_not_wait_for_the_others_on_gpus(monkeypatch):
    calls = []
    monkeypatch.setattr(torch_dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch_dist, 'get_backend', lambda: 'nccl')
    monkeypatch.setattr(torch_dist, 'destroy_process_group', lambda: calls.append('destroyed'))
    leave_process_group(failed=True)
    assert calls == []
    leave_process_group()
    assert calls == ['destroyed']
