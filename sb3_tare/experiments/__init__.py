"""Runnable studies; each module is a command, ``python -m sb3_tare.experiments.<name> --help``."""
