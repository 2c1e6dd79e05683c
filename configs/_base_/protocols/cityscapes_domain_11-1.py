"""Protocol cityscapes_domain_11-1: domain-incremental by city, 19 classes; split 'clean' (no test image is trained on); split='legacy' is that of the papers, which leaks.

`python tools/protocols.py cityscapes_domain_11-1` prints its steps.
"""
protocol = dict(name='cityscapes_domain_11-1', split='clean', preset='default')
