"""Protocol embedded_11-5: 11-5 over the embedded dataset, background counted, three steps.

`python tools/protocols.py voc_11-5` prints steps of the same sizes.
"""

protocol = dict(name='embedded_11-5', dataset='embedded', setting='overlapped', preset='default')
