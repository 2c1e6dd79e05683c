"""A method as a newcomer would write it: one folder, one config piece, and no file of the core."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import logged

FOLDER = Path(__file__).parents[1] / 'toy_method'


@pytest.fixture
def cfg(data_root, tmp_path):
    """A user's config: the data and the network of the tests, and the method's piece."""
    base = tiny_config(data_root, 'finetune', rehearsal=True)
    base.pop('method')
    base.dump(tmp_path / 'base.py')
    (tmp_path / 'mine.py').write_text(f"_base_ = ['base.py', {str(FOLDER / 'toy.py')!r}]\n")
    cfg = Config.fromfile(tmp_path / 'mine.py')
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2)}
    return cfg


def test_it_is_one_folder_of_sixty_lines():
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sorted(path.name for path in files) == ['__init__.py', 'toy.py']
    assert sum(len(path.read_text().splitlines()) for path in files) <= 60
    # --method takes the path of the piece.
    assert read_piece('method', str(FOLDER / 'toy.py'))['method']['name'] == 'toy'


def test_it_walks(cfg, tmp_path):
    WalkRunner(cfg, tmp_path / 'walk').run()
    for step in range(3):
        note = tmp_path / f'walk/step_{step:02d}/note.txt'
        assert note.read_text() == f'{3 + step} classes'
        for line in logged(tmp_path / 'walk', step):
            assert (line['decode.loss_entropy'] > 0) == (step > 0)
            assert (line.get('distill.loss_l1', 0) > 0) == (step > 0)
            parts = [value for key, value in line.items() if '.loss_' in key]
            assert line['loss'] == pytest.approx(sum(parts), rel=1e-4)


def test_its_hook_notes_a_step_that_another_method_trained(cfg, data_root, tmp_path):
    plain = tiny_config(data_root, 'finetune')
    plain.step_overrides = cfg.step_overrides
    WalkRunner(plain, tmp_path / 'plain', steps='0').run()
    WalkRunner(cfg, tmp_path / 'walk', steps='1', start_from=str(tmp_path / 'plain')).run()
    assert (tmp_path / 'walk/step_00/note.txt').is_file()
