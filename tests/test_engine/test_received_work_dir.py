"""A work directory that somebody else has made: nothing in it is executed or leads out of it."""

import json
import shutil

import pytest
from mmengine.config import Config
from test_evaluate_again import Arguments

from mmseg_cil.engine import commands
from mmseg_cil.engine.record.config_copy import load_copy
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.utils.atomic import write_text
from mmseg_cil.visualization.report import render_comparison, render_report


def config(data_root):
    cfg = tiny_config(data_root, 'icarl')
    cfg.step_overrides = {0: dict(max_iters=1), 'later': dict(max_iters=1)}
    return cfg


@pytest.fixture(scope='module')
def made(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('made') / 'walk'
    cfg = config(data_root)
    WalkRunner(cfg, work_dir, steps='0').run()
    write_text(work_dir / 'walk_config.py', cfg.pretty_text)
    return work_dir


@pytest.fixture
def received(made, tmp_path):
    """A copy in which every Python file creates a marker when it is executed."""
    work_dir = shutil.copytree(made, tmp_path / 'walk')
    marker = tmp_path / 'executed'
    for path in work_dir.rglob('*.py'):
        path.write_text(f'__import__("os").mkdir({str(marker)!r})\n{path.read_text()}')
    yield work_dir
    assert not marker.exists(), 'a file of the work directory was executed'


def test_steps_are_taken_over_without_its_configs(data_root, tmp_path, received):
    # The list of exemplars is made anew, with the network of the step.
    (received / 'step_00/exemplars.json').unlink()
    own = tmp_path / 'own'
    WalkRunner(config(data_root), own, start_from=str(received), steps='0-1').run()
    assert (own / 'step_00/exemplars.json').is_file() and (own / 'step_01/metrics.json').is_file()


def test_neither_tests_nor_reports_execute_its_config(data_root, received, made):
    with pytest.raises(
        InputError,
        match=r'walk_config\.py cannot be read as data.*line 1 is not '
        r'a plain value.*--config .*walk_config\.py',
    ):
        commands.test(Arguments(received))
    with pytest.raises(InputError, match='line 1 is not a plain value'):
        render_comparison([received, made], received / 'out', vary='randomness.seed')
    render_report(received, received / 'out', echo=len)
    WalkRunner(config(data_root), received, resume=True, steps='0').run()


def test_its_config_is_read_as_what_it_says(made):
    assert (
        load_copy(made / 'walk_config.py').to_dict()
        == Config.fromfile(made / 'walk_config.py').to_dict()
    )


def test_the_user_may_say_that_it_is_code(data_root, tmp_path, made):
    path = tmp_path / 'mine.py'
    path.write_text(f'seed = int("3")\n{(made / "walk_config.py").read_text()}')
    commands.test(Arguments(made, config=str(path), dry_run=True))


@pytest.mark.parametrize(
    ('line', 'told'),
    [
        ("evil = dict(type='subprocess.Popen', args=['mkdir', 'MARKER'])", 'evil.type'),
        ("hooks = [dict(type='os.mkdir', path='MARKER')]", 'hooks.0.type'),
        ("a = dict(b=dict(type='shutil.rmtree', path='MARKER'))", 'a.b.type'),
        ("a = dict(type='torch.load', f='MARKER')", 'a.type'),
        ("a = dict(type=torch.hub.load, f='MARKER')", 'a.type'),
        ("a = dict(type='builtins.exec')", 'a.type'),
        ("a = dict(type='mmengine.registry.registry.import_module')", 'a.type'),
        ("a = dict(type='mmengine.fileio.load', file='MARKER')", 'a.type'),
        ("a = dict(type='mmseg.subprocess.Popen', args=['mkdir', 'MARKER'])", 'a.type'),
        ("a = dict(type='mmseg.shutil.rmtree', path='MARKER')", 'a.type'),
        ("a = dict(type='LoadBiomedicalImageFromFile', decode_backend='pickle')", 'decode_backend'),
        ("method = dict(name='plop', by_protocol='MARKER')", 'method.by_protocol'),
        ("step_overrides = {1: {'method.by_protocol': 'MARKER'}}", 'by_protocol'),
        ("_base_ = ['elsewhere.py']", '_base_'),
        ("custom_imports = dict(imports=['no_such_module_of_mine'])", 'no_such_module_of_mine'),
    ],
)
def test_types_that_could_be_anything_are_refused(tmp_path, made, line, told):
    path = tmp_path / 'walk_config.py'
    path.write_text(f'{(made / "walk_config.py").read_text()}\n{line}\n')
    with pytest.raises(InputError, match=told):
        load_copy(path)


def test_types_by_dotted_names_are_read(tmp_path):
    path = tmp_path / 'walk_config.py'
    path.write_text("""
model = dict(type='mmseg.models.segmentors.encoder_decoder.EncoderDecoder',
             backbone=dict(type='mmseg.ResNet', norm_cfg=dict(type='torch.nn.SyncBatchNorm')),
             act_cfg=dict(type=torch.nn.modules.activation.GELU))
optimizer = dict(type='torch.optim.adam.Adam')
hook = dict(type='mmengine.hooks.IterTimerHook')
pipeline = [dict(type='mmcv.transforms.loading.LoadImageFromFile'), dict(type='mmseg.Unknown')]
""")
    assert load_copy(path).model.act_cfg.type == 'torch.nn.modules.activation.GELU'


def test_weights_that_a_network_reads_itself_are_looked_at(tmp_path, poison):
    path = tmp_path / 'walk_config.py'
    weights = poison(tmp_path / 'a.bin')
    path.write_text(
        f"model = dict(backbone=dict(type='TIMMBackbone', checkpoint_path={weights!r}))\n"
    )
    with pytest.raises(InputError, match=r'^model\.backbone\.checkpoint_path: .*posix\.mkdir'):
        load_copy(path)


def test_links_are_not_followed_out_of_it(data_root, tmp_path, made):
    work_dir = shutil.copytree(made, tmp_path / 'walk')
    secret = (work_dir / 'step_00/checkpoint.pth').rename(tmp_path / 'secret')
    (work_dir / 'step_00/checkpoint.pth').symlink_to(secret)
    cfg = config(data_root)
    for attempt in (
        lambda: WalkRunner(cfg, work_dir, resume=True).open(),
        lambda: WalkRunner(cfg, tmp_path / 'own', start_from=str(work_dir)).open(),
        lambda: commands.test(Arguments(work_dir)),
        lambda: render_report(work_dir, echo=len),
    ):
        with pytest.raises(InputError, match=f'checkpoint.pth is a link to {secret}, outside'):
            attempt()
    assert not (tmp_path / 'own/step_00').exists()


def test_a_journal_names_no_files_elsewhere(data_root, tmp_path, made):
    work_dir = shutil.copytree(made, tmp_path / 'walk')
    journal = json.loads((work_dir / 'journal.json').read_text())
    journal['start_from'] = str(made)
    journal['steps'][0]['started_from'] = journal['steps'][0]['taken_from'] = '/etc/passwd'
    (work_dir / 'journal.json').write_text(json.dumps(journal))
    cfg = config(data_root)
    WalkRunner(cfg, work_dir, resume=True, steps='0').run()
    journal['steps'][0]['status'] = 'begun'
    (work_dir / 'journal.json').write_text(json.dumps(journal))
    with pytest.raises(InputError, match=f'add --start-from {made} again'):
        WalkRunner(cfg, work_dir, resume=True).prepare()
