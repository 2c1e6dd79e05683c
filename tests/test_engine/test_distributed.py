import pytest

from mmseg_cil.engine.distributed import (
    batch_per_process,
    main_process_first,
    setup_process_group,
)
from mmseg_cil.errors import InputError


def test_the_processes_share_the_batch():
    assert batch_per_process(24, 4) == 6
    assert batch_per_process(5, 1) == 5


@pytest.mark.parametrize(('batch', 'processes'), [(24, 5), (2, 4), (0, 1)])
def test_processes_that_do_not_divide_the_batch_are_refused(batch, processes):
    with pytest.raises(InputError, match=f'global_batch_size={batch} cannot be shared by '
                       f'{processes} processes'):
        batch_per_process(batch, processes)


def test_a_launcher_without_its_variables_is_refused(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(InputError, match='RANK'):
        setup_process_group('pytorch')
    with pytest.raises(InputError, match='unknown --launcher'):
        setup_process_group('rocket')


def test_one_process_works_once():
    calls = []
    assert main_process_first(lambda: calls.append(1) or 'done') == 'done'
    assert calls == [1]
