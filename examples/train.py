"""Run rl-zoo3's train.py with this package's algorithms: ``python train.py --algo tare_ppo --env Hopper-v5``."""

from sb3_tare.zoo import main

if __name__ == "__main__":
    main("train")
