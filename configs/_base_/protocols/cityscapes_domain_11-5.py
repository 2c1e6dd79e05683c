"""Protocol cityscapes_domain_11-5: domain-incremental by city, 19 classes.

split='clean': no test image is trained on at any step. split='legacy' is that of
the papers, of whose final test images 71 to 78 % were trained on at some step.

`python tools/protocols.py cityscapes_domain_11-5` prints its steps.
"""

protocol = dict(name='cityscapes_domain_11-5', split='clean', preset='default')
