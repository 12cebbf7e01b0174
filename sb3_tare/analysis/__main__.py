"""``python -m sb3_tare.analysis``: pictures, a video and a table of a saved model's learned reward."""

from sb3_tare.utils.extras import exit_without

try:
    from sb3_tare.analysis.command import main
except ModuleNotFoundError as error:
    exit_without(error, "python -m sb3_tare.analysis")

if __name__ == "__main__":
    raise SystemExit(main())
