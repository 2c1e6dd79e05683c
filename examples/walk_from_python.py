"""Walk three steps with MiB from Python and look at the result.

python examples/walk_from_python.py work_dirs/example
"""

import os
import sys

import mmseg_cil

iterations = int(os.environ.get('ITERATIONS', '300'))
result = mmseg_cil.walk(
    method='mib',
    protocol='embedded_11-5',
    work_dir=sys.argv[1],
    options={
        'step_overrides.0.max_iters': iterations,
        'step_overrides.later.max_iters': iterations // 2,
    },
)
print(result)
for row in result.table()[-3:]:
    print(row)
print('plain MMSegmentation weights:', *result.checkpoints, sep='\n  ')
