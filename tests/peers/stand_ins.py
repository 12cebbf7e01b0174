"""Classes that stand in for a peer's, with its arguments, so that the peer's own tests can be run over them."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import sb3_contrib

from sb3_tare import AWR, TAREAWR, TAREPPO, LeanA2C, LearnsReward, RewardLearner
from sb3_tare.utils.arguments import accepted_arguments

_learners: WeakKeyDictionary[Any, RewardLearner] = WeakKeyDictionary()


class Learned:
    """Mixed in before an algorithm, each of its models learns with a callback of its own, last in the list."""

    def learn(self, total_timesteps, callback=None, *args, **kwargs):
        given = [] if callback is None else callback if isinstance(callback, list) else [callback]
        learner = _learners.setdefault(self, RewardLearner())
        return super().learn(total_timesteps, [*given, learner], *args, **kwargs)


class LearnedTRPO(Learned, sb3_contrib.TRPO):
    """TRPO with the callback."""


class LearnedMaskablePPO(Learned, sb3_contrib.MaskablePPO):
    """MaskablePPO with the callback."""


class TAREA2C(LearnsReward, LeanA2C):
    """A2C on a learned reward."""


class ImplicitTAREPPO(TAREPPO):
    """TAREPPO with the paper's gradient, beside the reward of the environment."""

    def __init__(self, *args, reward_kwargs=None, **kwargs):
        super().__init__(*args, reward_kwargs=reward_kwargs or {"preset": "implicit"}, **kwargs)


class OffPolicy:
    """Mixed in before AWR, it takes the arguments that tests give SAC and DQN, and leaves out those that AWR has no use for.

    Iterations are short, so that the few steps of a test hold some, and learning rates next to nothing: AWR steps by SGD, as
    its authors do, which goes astray from parameters that tests set at random.
    """

    def __init__(self, policy, env, **kwargs):
        accepted = {name: value for name, value in kwargs.items() if name in accepted_arguments(AWR)}
        if accepted.get("policy_kwargs"):
            accepted["policy_kwargs"] = {name: v for name, v in accepted["policy_kwargs"].items() if name != "n_critics"}
        few = min(32, accepted.get("buffer_size", 32))
        rates = {"learning_rate": 1e-7, "critic_learning_rate": 1e-7}
        super().__init__(policy, env, **{"train_freq": few, "batch_size": few, **accepted, **rates})


class OffPolicyAWR(OffPolicy, AWR):
    """AWR with the arguments of SAC and DQN."""


class OffPolicyTAREAWR(OffPolicy, TAREAWR):
    """TAREAWR with the arguments of SAC and DQN."""
