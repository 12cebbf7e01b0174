"""``python -m sb3_tare.zoo``: one of rl-zoo3's commands."""

from sb3_tare.zoo import main

if __name__ == "__main__":
    main()
