"""``python -m mmseg_cil`` is the command ``mmseg-cil``."""

from mmseg_cil.cli.main import main

if __name__ == '__main__':
    main()
