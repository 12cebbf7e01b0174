"""Settings that a type checker is to refuse: an ignored error that is none is an error itself. Checked by mypy, not run."""

from sb3_tare import LIRPG, TAREAWR, TAREPPO, RewardLearner

TAREPPO("MlpPolicy", "CartPole-v1", reward_kwargs={"preset": "implicit", "validation": "split", "cg_steps": 3})
TAREAWR("MlpPolicy", "CartPole-v1", reward_kwargs={"sampled_steps": 512})
LIRPG("MlpPolicy", "CartPole-v1", reward_kwargs={"through_second_moment": True})
RewardLearner(swap=False)

TAREPPO("MlpPolicy", "CartPole-v1", reward_kwargs={"validaton": "split"})  # type: ignore[arg-type]
TAREPPO("MlpPolicy", "CartPole-v1", reward_kwargs={"sampled_steps": 512})  # type: ignore[arg-type]
LIRPG("MlpPolicy", "CartPole-v1", reward_kwargs={"swap": True})  # type: ignore[arg-type]
RewardLearner(swapp=False)  # type: ignore[call-arg]
