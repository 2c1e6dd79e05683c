"""Protocol cityscapes_domain_11-5: domain-incremental by city, 19 classes; split 'clean' (no test image is trained on); split='legacy' is that of the papers, which leaks.

`python tools/protocols.py cityscapes_domain_11-5` prints its steps.
"""
protocol = dict(name='cityscapes_domain_11-5', split='clean', preset='default')
