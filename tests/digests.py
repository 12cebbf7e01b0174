"""What the package computes, as digests: run before and after a change that should move no bit.

::

    python tests/digests.py > before.txt
    python tests/digests.py | diff before.txt -

Each configuration trains for three iterations on toys. A line each for the policy, its optimiser, the learned reward, what
the learner keeps from one iteration to the next, and the logged scalars but for times. Names of parameters do not enter,
their order does, so that a rename shows nothing. Digests depend on the kernels of the machine: compare runs on one.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecNormalize
from toys import ITERATION, SMALL, TINY_NET, Toy, awr, flat, implicit_learner, tare, tare_awr, vec_env

from sb3_tare import LIRPG, RewardLearner

ITERATIONS = 3
DICTIONARY = spaces.Dict({"position": spaces.Box(-np.inf, np.inf, (3,), np.float32), "mode": spaces.Discrete(3)})


class Masked(Toy):
    """Two of three actions, by turns."""

    def __init__(self) -> None:
        super().__init__(action_space=spaces.Discrete(3), p_end=0.05)

    def action_masks(self) -> np.ndarray:
        return np.arange(3) != self.time % 3


def walk() -> Toy:
    """Episodes that end in both ways."""
    return Toy(p_end=0.05)


def normalized(n_envs: int = 2) -> VecNormalize:
    return VecNormalize(vec_env(n_envs, walk))


def with_callback(algorithm: Any, env: Any = None, **host: Any) -> tuple[Any, RewardLearner]:
    learner = implicit_learner()
    policy_kwargs = dict(TINY_NET)
    model = algorithm("MlpPolicy", normalized() if env is None else env, seed=0, policy_kwargs=policy_kwargs, **host)
    return model, learner


CONFIGURATIONS: dict[str, Callable[[], Any]] = {
    "TAREPPO": lambda: tare(normalized()),
    "TAREPPO paper": lambda: tare(normalized(), preset="paper"),
    "TAREPPO interleave": lambda: tare(normalized(), interleave=True),
    "TAREPPO next_rollout": lambda: tare(normalized(), validation="next_rollout", n_reward_updates=2),
    "TAREPPO one critic": lambda: tare(normalized(), critics=1, reward_mode="replace", center=True),
    "TAREPPO hessian": lambda: tare(normalized(), curvature="hessian", curvature_episodes="training"),
    "TAREPPO hessian waits": lambda: tare(normalized(), curvature="hessian", validation="next_rollout"),
    "TAREPPO identity": lambda: tare(normalized(), curvature="identity", actor_parameters="without_log_std"),
    "TAREPPO dictionary": lambda: tare(vec_env(2, lambda: Toy(DICTIONARY, spaces.Discrete(3))), "MultiInputPolicy"),
    "LIRPG": lambda: LIRPG("MlpPolicy", normalized(), **SMALL),
    "LIRPG add": lambda: LIRPG("MlpPolicy", normalized(), reward_kwargs={"reward_mode": "add"}, **SMALL),
    "PPO with callback": lambda: with_callback(PPO, n_steps=64, batch_size=32, n_epochs=2),
    "A2C with callback": lambda: with_callback(A2C, n_steps=64),
    "TRPO with callback": lambda: with_callback(TRPO, n_steps=64, batch_size=32),
    "MaskablePPO with callback": lambda: with_callback(MaskablePPO, vec_env(2, Masked), n_steps=64, batch_size=32, n_epochs=2),
    "AWR": lambda: awr(vec_env(2, walk)),
    "TAREAWR": lambda: tare_awr(vec_env(2, walk), sampled_steps=64),
    "TAREAWR paper": lambda: tare_awr(vec_env(2, walk), sampled_steps=64, preset="paper"),
    "TAREAWR next_rollout": lambda: tare_awr(vec_env(2, walk), sampled_steps=64, validation="next_rollout"),
    "TAREAWR hessian": lambda: tare_awr(vec_env(2, walk), sampled_steps=64, curvature="hessian"),
}


def main() -> None:
    """Print the digests of all configurations, or of those whose names begin with an argument."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name, build in CONFIGURATIONS.items():
        if not sys.argv[1:] or any(name.startswith(argument) for argument in sys.argv[1:]):
            built = build()
            model, learner = built if isinstance(built, tuple) else (built, getattr(built, "reward_learner", None))
            for part, digest in digests(model, learner):
                print(f"{name} | {part} | {digest}", flush=True)


def digests(model: Any, learner: RewardLearner | None) -> Iterator[tuple[str, str]]:
    """Train ``model`` and give the digest of each part of it."""
    scalars: list[tuple[str, float]] = []
    model.set_logger(_logged_into(scalars))
    callback = learner if learner is not None and not hasattr(model, "reward_learner") else None
    model.learn(ITERATIONS * ITERATION * model.n_envs, callback=callback, log_interval=1)
    policy = model.policy
    yield "policy", digest(policy.state_dict().values())
    optimisers = [policy.optimizer] if policy.optimizer is not None else [policy.actor_optimizer, policy.critic_optimizer]
    yield "policy's optimiser", digest(leaf for o in optimisers for _, leaf in flat(o.state_dict()["state"]))
    if learner is not None:
        trainer = learner.trainer
        yield "reward", digest(trainer.reward_model.parameters())
        yield "reward's optimisers", digest(leaf for _, leaf in flat(_states(trainer.optimisers.state_dict())))
        yield "generator", digest([trainer.generator.get_state()])
    yield "scalars", digest(value for _, value in scalars)
    for key in sorted({key for key, _ in scalars}):
        yield key, digest(value for name, value in scalars if name == key)


def _states(state: Mapping[str, Any]) -> list[Any]:
    return [optimiser["state"] for optimiser in state.values()]


def _logged_into(scalars: list[tuple[str, float]]) -> Any:
    class Kept(KVWriter):
        def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
            kept = {key: value for key, value in key_values.items() if not key.startswith("time/") and "seconds" not in key}
            scalars.extend((key, float(kept[key])) for key in sorted(kept))

        def close(self) -> None:
            pass

    return Logger(folder=None, output_formats=[Kept()])


def digest(values: Iterable[Any]) -> str:
    """The first 16 digits of the SHA-256 of all numbers' bytes, one behind the other."""
    sha = hashlib.sha256()
    for value in values:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


if __name__ == "__main__":
    main()
