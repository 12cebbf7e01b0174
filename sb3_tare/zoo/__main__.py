"""``python -m sb3_tare.zoo``: one of rl-zoo3's commands."""

from sb3_tare.utils.extras import exit_without

try:
    from sb3_tare.zoo.commands import main
except ModuleNotFoundError as error:
    exit_without(error, "python -m sb3_tare.zoo")

if __name__ == "__main__":
    main()
