"""What happens before, during and after a step."""

import mmseg.engine  # noqa: F401
