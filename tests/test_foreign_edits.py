"""What others make of a host's advantages, returns and values reaches the policy, or is refused at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from toys import AS_HOST, BOX, OBSERVATION, SMALL, Toy, Watch, differences, policy_of, ppo, tare, vec_env

from sb3_tare import LIRPG, RewardLearner

N_STEPS = 3 * 2 * 64


def walks() -> Any:
    return vec_env(2, lambda: Toy(OBSERVATION, BOX, horizon=9, p_end=0.05))


def bonus(shape: tuple[int, ...]) -> np.ndarray:
    return np.linspace(-1.0, 2.0, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def raise_advantages(buffer: RolloutBuffer) -> None:
    """An intrinsic bonus, as callbacks for exploration add it."""
    buffer.advantages += bonus(buffer.advantages.shape)


def raise_returns(buffer: RolloutBuffer) -> None:
    buffer.returns += bonus(buffer.returns.shape)


def raise_both(buffer: RolloutBuffer) -> None:
    raise_advantages(buffer)
    buffer.returns = buffer.advantages + buffer.values


def scale_advantages(buffer: RolloutBuffer) -> None:
    """A Lagrangian's mixture, as in constrained PPO."""
    buffer.advantages = (buffer.advantages - 0.5 * bonus(buffer.advantages.shape)) / 1.5


def raise_values(buffer: RolloutBuffer) -> None:
    buffer.values += bonus(buffer.values.shape)


def raise_a_single_one(buffer: RolloutBuffer) -> None:
    buffer.advantages[3, 1] += 0.25


EDITS = [raise_advantages, raise_returns, raise_both, scale_advantages, raise_values, raise_a_single_one]
every_edit = pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)


class MonteCarlo(RolloutBuffer):
    """A rollout buffer with an estimator of its own."""

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        super().compute_returns_and_advantage(last_values, dones)
        self.returns = np.cumsum(self.rewards[::-1], axis=0)[::-1].astype(np.float32)
        self.advantages = self.returns - self.values


def editing(edit: Callable[[RolloutBuffer], None]) -> Watch:
    return Watch(rollout_end=lambda callback: edit(callback.model.rollout_buffer))


@every_edit
@pytest.mark.parametrize("critics", [1, 2])
def test_a_frozen_learner_follows_ppo_whatever_is_edited(edit, critics):
    host = {"clip_range_vf": 0.2}  # the buffer's values matter for this alone
    plain = ppo(walks(), **host).learn(N_STEPS, callback=editing(edit))
    learned = tare(walks(), host=host, critics=critics, **AS_HOST).learn(N_STEPS, callback=editing(edit))
    assert not differences(policy_of(plain), policy_of(learned))
    assert differences(policy_of(plain), policy_of(ppo(walks(), **host).learn(N_STEPS)))


@pytest.mark.parametrize("algorithm", [A2C, TRPO, PPO], ids=lambda algorithm: algorithm.__name__)
def test_a_frozen_callback_behind_one_that_edits_follows_its_host(algorithm):
    host = {"n_steps": 64, "seed": 0}

    def trained(*learners: RewardLearner) -> dict[str, Any]:
        model = algorithm("MlpPolicy", walks(), policy_kwargs={"net_arch": [16]}, **host)
        return policy_of(model.learn(N_STEPS, callback=[editing(raise_both), *learners]))

    assert not differences(trained(), trained(RewardLearner(**AS_HOST)))


@pytest.mark.parametrize("critics", [1, 2])
def test_a_frozen_learner_follows_ppo_with_an_estimator_of_the_buffers_own(critics):
    host = {"rollout_buffer_class": MonteCarlo}
    plain = ppo(walks(), **host).learn(N_STEPS)
    learned = tare(walks(), host=host, critics=critics, **AS_HOST).learn(N_STEPS)
    assert not differences(policy_of(plain), policy_of(learned))
    assert differences(policy_of(plain), policy_of(ppo(walks()).learn(N_STEPS)))


def test_each_half_of_a_rollout_is_lent_with_the_edits_of_its_rows():
    lent = {}
    model = tare(walks(), n_reward_updates=0)
    trained = {}

    def keep(callback: Watch) -> None:
        raise_both(callback.model.rollout_buffer)
        lent["before"] = callback.model.rollout_buffer.advantages.T.ravel().copy()

    trainer = model.reward_learner.trainer
    label = trainer.label

    def label_and_keep(appraised: Any) -> Any:
        labelled = label(appraised)
        trained.update(zip(labelled.part.rows.tolist(), labelled.advantages.tolist(), strict=True))
        return labelled

    trainer.label = label_and_keep
    model.learn(2 * 64, callback=Watch(rollout_end=keep))
    whole = [trained[row] for row in sorted(trained)]
    difference = np.abs(np.array(whole) - lent["before"])
    assert len(whole) == 2 * 64
    assert np.median(difference) < 1e-6  # only pieces that the split cut are estimated anew
    assert bonus((64, 2)).std() > 100 * np.median(difference)


@every_edit
def test_a_reward_in_place_of_the_extrinsic_one_refuses_what_it_would_undo(edit):
    model = tare(walks(), reward_mode="replace", critics=1)
    before = policy_of(model)
    with pytest.raises(RuntimeError, match=r"differ from the host's own estimate.*reward_mode='add'"):
        model.learn(N_STEPS, callback=editing(edit))
    assert not differences(before, policy_of(model))


def test_returns_that_are_edited_reach_the_critic_of_extrinsic_returns_when_the_reward_is_replaced():
    def critic(*callbacks: Watch) -> torch.Tensor:
        model = tare(walks(), reward_mode="replace", n_reward_updates=0)
        model.learn(2 * 64, callback=list(callbacks))
        return model.policy.value_net.weight.detach()

    assert not torch.equal(critic(), critic(editing(raise_returns)))


def lirpg(**reward_kwargs: Any) -> LIRPG:
    return LIRPG("MlpPolicy", walks(), reward_kwargs={"n_reward_updates": 0, **reward_kwargs}, **SMALL)


def test_lirpg_carries_edits_through_beside_the_extrinsic_reward_and_refuses_them_in_its_place():
    plain = ppo(walks()).learn(N_STEPS, callback=editing(raise_both))
    learned = lirpg(reward_mode="add").learn(N_STEPS, callback=editing(raise_both))
    assert not differences(policy_of(plain), policy_of(learned))
    with pytest.raises(RuntimeError, match="something edits them"):
        lirpg(reward_mode="replace").learn(N_STEPS, callback=editing(raise_both))


def test_edits_wait_with_their_rollout_for_its_validation(tmp_path):
    model = tare(walks(), validation="next_rollout")
    model.learn(2 * 64, callback=editing(raise_both))
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=walks())
    waiting = loaded.reward_learner.trainer._waiting
    assert waiting.edits.advantages.abs().max() > 1.0
    loaded.learn(2 * 64, reset_num_timesteps=False)


def test_where_nobody_edits_anything_there_are_no_edits():
    rollouts = []
    model = tare(walks())
    read = model.reward_learner.trainer.read
    model.reward_learner.trainer.read = lambda record: rollouts.append(read(record)) or rollouts[-1]
    model.learn(N_STEPS)
    assert len(rollouts) == 3
    assert all(rollout.edits is None for rollout in rollouts)
