"""The paper's comparisons as runnable studies: ``python -m sb3_tare.experiments list``."""
