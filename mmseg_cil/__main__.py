"""The command ``mmseg-cil`` as ``python -m mmseg_cil``."""

from mmseg_cil.cli.main import main

if __name__ == '__main__':
    main()
