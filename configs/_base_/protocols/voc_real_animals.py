"""A protocol whose classes the config lists, here four steps of animals and persons.

Over the classes of Pascal VOC, for a sample of it in which these are the frequent ones
(datasets/voc_real_160.py). Classes that no step lists are background to the end.

Every dataset works so: dataset names it, steps lists class names (or ids) by step.
"""

protocol = dict(
    name='voc_real_animals',
    dataset='voc',
    steps=[['background', 'cat', 'dog', 'person'], ['horse'], ['cow'], ['sheep']],
    setting='overlapped',
    preset='default',
)
