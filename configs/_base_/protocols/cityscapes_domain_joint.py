"""Protocol cityscapes_domain_joint: all 21 cities at once, the upper bound by city.

split='clean': no test image is trained on. split='legacy' is that of the papers.

`python tools/protocols.py cityscapes_domain_joint` prints its step.
"""

protocol = dict(name='cityscapes_domain_joint', split='clean', preset='default')
