"""The verbs of this package, one file each; `jisu` calls ``add_arguments`` and ``run``."""
