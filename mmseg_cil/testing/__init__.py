"""Building blocks for tests of walks: tiny data, tiny walks, kills, networks and processes.

``tiny`` draws a data set and makes configs whose walk of three steps takes seconds; ``walks`` kills
a walk in an iteration and compares two walks; ``processes`` runs a function or a script in
several processes; ``method_checks.check_method`` checks that a method resumes to the same
weights, learns in two processes as in one, replays, survives a step without images and runs in
mixed precision; ``networks`` builds thin networks of every kind of head. The following test checks
that a method of your own resumes to the same weights::

    from mmseg_cil.engine.walk_runner import WalkRunner
    from mmseg_cil.testing.tiny import make_data, tiny_config
    from mmseg_cil.testing.walks import assert_same_weights, at, killed

    def test_it_resumes(tmp_path):
        cfg = tiny_config(make_data(tmp_path / 'data'), dict(name='mine', ...))
        WalkRunner(cfg, tmp_path / 'whole', steps='0-1').run()
        with killed(at(step=1, iteration=3)):
            WalkRunner(cfg, tmp_path / 'broken', steps='0-1').run()
        WalkRunner(cfg, tmp_path / 'broken', resume=True, steps='0-1').run()
        assert_same_weights(tmp_path / 'whole', tmp_path / 'broken', 0, 1)

The project's own tests use this package too. No other module of ``mmseg_cil`` imports it.
"""
