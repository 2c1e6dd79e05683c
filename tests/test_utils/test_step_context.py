from mmseg_cil.utils.step_context import StepContext


def test_classes_of_a_later_step():
    step = StepContext.of_class_counts([3, 2, 1])
    assert (step.index, step.num_seen, step.num_old, step.num_new) == (2, 6, 5, 1)
    assert step.num_hidden == 5


def test_nothing_hides_at_step_0_or_where_labels_are_complete():
    assert StepContext.of_class_counts([3]).num_hidden == 0
    assert StepContext.of_class_counts([3, 2], has_background=False).num_hidden == 0


def test_a_domain_step_has_old_classes_only():
    step = StepContext(2, (0,) * 19, has_background=False, old_labels_hidden=False)
    assert (step.num_old, step.num_new, step.num_hidden) == (19, 0, 0)


def test_the_plain_form_is_read_back():
    step = StepContext.of_class_counts([2, 1])
    plain = dict(index=1, class_steps=[0, 0, 1], has_background=True, old_labels_hidden=True)
    assert StepContext.from_config(plain) == step
    assert StepContext.from_config(dict(plain, num_future=4)).num_future == 4
