"""What users of PPO do to it while it learns, they can do to LeanPPO, with PPO's result."""

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from lean_toys import (
    STEPS,
    Watch,
    assert_same,
    box,
    change_parameters,
    learned,
    made,
    pair,
    replace_data,
    set_parameters,
    state_of,
    toys,
)
from stable_baselines3 import PPO
from stable_baselines3.common.utils import FloatSchedule
from torch.distributions import Distribution, Normal

from sb3_tare.lean import LeanPPO

ITS_OWN = {"actor", "recorder"}
"""Names that callbacks find in ``locals`` beside SB3's."""


def kept(value: Any) -> Any:
    """A copy of what a callback sees, fit to be compared."""
    return copy.deepcopy(value) if isinstance(value, (torch.Tensor, np.ndarray, int, bool, float)) else type(value).__name__


@pytest.mark.parametrize("actions", [box(2, bound=1.0), spaces.Discrete(3)])
def test_callbacks_find_in_locals_what_ppo_puts_there(actions):
    seen: dict[type, list[dict[str, Any]]] = {PPO: [], LeanPPO: []}

    def look(callback: Any) -> None:
        names = callback.locals.keys() - ITS_OWN - {"self", "total_timesteps", "tb_log_name"}
        seen[type(callback.model)].append({name: kept(callback.locals[name]) for name in sorted(names)})

    for algorithm in (PPO, LeanPPO):
        learned(algorithm, toys(2, actions=actions), n_rollouts=2, callback=Watch(step=look, rollout_end=look))
    assert len(seen[PPO]) == 2 * STEPS + 2
    assert_same(seen[PPO], seen[LeanPPO])


def test_callbacks_may_write_rewards():
    def pay(callback: Any) -> None:
        callback.locals["rewards"] += 1.0

    models = [learned(algorithm, callback=Watch(step=pay)) for algorithm in (PPO, LeanPPO)]
    assert_same(*map(state_of, models))


@pytest.mark.parametrize("at", [10, STEPS, STEPS + 5])
def test_a_callback_stops_the_training(at):
    models = [learned(a, callback=Watch(step=lambda self: self.num_timesteps < at)) for a in (PPO, LeanPPO)]
    assert [model.num_timesteps for model in models] == [at, at]
    assert_same(*map(state_of, models))


def change_learning_rate(model: PPO) -> None:
    model.lr_schedule = FloatSchedule(3e-3)


def change_clip_range(model: PPO) -> None:
    model.clip_range, model.clip_range_vf = (lambda _: 0.05), (lambda _: 0.1)


def change_discounts(model: PPO) -> None:
    model.gamma = model.rollout_buffer.gamma = 0.5
    model.rollout_buffer.gae_lambda = 0.3


def change_coefficients(model: PPO) -> None:
    model.ent_coef, model.vf_coef, model.max_grad_norm, model.target_kl = 0.1, 0.2, 0.1, 0.01


def change_epochs(model: PPO) -> None:
    model.n_epochs, model.batch_size, model.normalize_advantage = 3, 10, False


def change_adam(model: PPO) -> None:
    model.policy.optimizer.param_groups[0].update(betas=(0.5, 0.9), eps=1e-3)


def change_policy(model: PPO) -> None:
    if model.num_timesteps:
        torch.manual_seed(1)
        model.policy = model.policy_class(model.observation_space, model.action_space, model.lr_schedule, net_arch=[5])


def replace_data_by_one_vector(model: PPO) -> None:
    parameters = list(model.policy.parameters())
    vector = torch.cat([parameter.data.flatten() for parameter in parameters])
    for parameter, part in zip(parameters, vector.split([p.numel() for p in parameters]), strict=True):
        parameter.data = part.view(parameter.shape)


def reset_optimizer(model: PPO) -> None:
    model.policy.optimizer = torch.optim.Adam(model.policy.parameters(), lr=1e-3)


def draw_random_numbers(model: PPO) -> None:
    torch.randn(3), np.random.rand(2)  # noqa: NPY002


@pytest.mark.parametrize(
    "change",
    [
        change_learning_rate,
        change_clip_range,
        change_discounts,
        change_coefficients,
        change_epochs,
        change_adam,
        change_policy,
        change_parameters,
        replace_data,
        replace_data_by_one_vector,
        reset_optimizer,
        set_parameters,
        draw_random_numbers,
    ],
)
@pytest.mark.parametrize("when", ["rollout_start", "rollout_end"])
def test_what_a_callback_changes_between_rollouts_is_heeded(change, when):
    models = []
    for algorithm in (PPO, LeanPPO):
        models.append(learned(algorithm, callback=Watch(**{when: lambda callback: change(callback.model)})))
    assert models[1].host_loop.update == "written out"
    assert_same(*map(state_of, models))


@pytest.mark.parametrize("change", [change_parameters, replace_data, set_parameters])
def test_what_a_callback_does_to_parameters_in_the_middle_of_a_rollout_is_heeded(change):
    def now_and_then(callback: Any) -> None:
        if callback.num_timesteps % 10 == 0:
            change(callback.model)

    models = [learned(algorithm, callback=Watch(step=now_and_then)) for algorithm in (PPO, LeanPPO)]
    assert_same(*map(state_of, models))


def test_exploration_may_be_annealed_in_the_middle_of_a_rollout():
    def anneal(callback: Any) -> None:
        callback.model.policy.log_std.data.fill_(-callback.num_timesteps / 50)

    models = [learned(algorithm, callback=Watch(step=anneal)) for algorithm in (PPO, LeanPPO)]
    assert_same(*map(state_of, models))


def test_random_numbers_go_on_as_behind_ppo():
    states = []
    for algorithm in (PPO, LeanPPO):
        learned(algorithm)
        states.append((torch.get_rng_state(), np.random.get_state()[1]))  # noqa: NPY002
    assert_same(*states)


def test_gradients_are_left_for_those_who_log_them():
    first, second = pair()
    assert_same([p.grad for p in first.policy.parameters()], [p.grad for p in second.policy.parameters()])


def test_the_optimizers_state_has_adams_layout():
    first, second = (model.get_parameters()["policy.optimizer"] for model in pair())
    assert_same(first, second)
    for one, other in zip(first["state"].values(), second["state"].values(), strict=True):
        assert {name: (x.dtype, x.shape, x.stride()) for name, x in one.items()} == {
            name: (x.dtype, x.shape, x.stride()) for name, x in other.items()
        }


@pytest.mark.parametrize("lean", [True, False])
def test_a_saved_model_goes_on_as_ppo_does(tmp_path, lean):
    models = []
    for algorithm, arguments in ((PPO, {}), (LeanPPO, {"lean": lean})):
        learned(algorithm, **arguments).save(tmp_path / algorithm.__name__)
        model = algorithm.load(tmp_path / algorithm.__name__, toys(), device="cpu")
        models.append(model.learn(2 * STEPS))
    assert models[1].lean is lean
    assert models[1].host_loop.update == ("written out" if lean else "Stable-Baselines3")
    assert_same(*map(state_of, models))


def test_a_copy_made_while_learning_goes_on_as_the_copy_of_ppo_does(tmp_path):
    copies = []
    for algorithm in (PPO, LeanPPO):

        def duplicate(callback: Any) -> None:
            callback.model.save(tmp_path / "model")
            copies.append(copy.deepcopy(callback.model))

        learned(algorithm, n_rollouts=1, callback=Watch(rollout_end=duplicate))
    for model in copies:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        model.train()
    assert_same(*map(state_of, copies))


def test_ppos_files_are_read_and_so_are_its_own_by_ppo(tmp_path):
    first, second = pair()
    first.save(tmp_path / "ppo")
    second.save(tmp_path / "lean")
    assert_same(LeanPPO.load(tmp_path / "ppo", device="cpu").get_parameters(), first.get_parameters())
    assert_same(PPO.load(tmp_path / "lean", device="cpu").get_parameters(), first.get_parameters())


def test_an_early_stop_is_announced_as_in_ppo(capsys):
    printed = []
    for algorithm in (PPO, LeanPPO):
        learned(algorithm, target_kl=0.001, learning_rate=0.02, verbose=1)
        printed.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("Early stopping")])
    assert len(printed[0]) >= 1
    assert printed[0] == printed[1]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_update_leaves_the_steps_that_were_taken(interrupt, monkeypatch):
    model = learned(LeanPPO, n_rollouts=1)
    before = copy.deepcopy(model.get_parameters())
    calls = iter(range(100))

    def interrupted(n: int) -> np.ndarray:
        if next(calls) == 1:  # the second epoch
            raise interrupt
        return np.arange(n)

    monkeypatch.setattr(np.random, "permutation", interrupted)
    with pytest.raises(interrupt):
        model.train()
    after = model.get_parameters()
    assert after["policy.optimizer"]["state"][0]["step"] == before["policy.optimizer"]["state"][0]["step"] + 2
    assert not torch.equal(after["policy"]["action_net.weight"], before["policy"]["action_net.weight"])


def test_numbers_that_overflow_are_no_warnings():
    models = [made(algorithm) for algorithm in (PPO, LeanPPO)]
    for model in models:
        _, callback = model._setup_learn(STEPS)
        model.policy.action_net.bias.data.fill_(1e25)
        model.policy.log_std.data.fill_(80.0)
        torch.manual_seed(0)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, STEPS)
    assert_same(*(model.rollout_buffer.log_probs for model in models))


GENERAL = {"policy_kwargs": {"net_arch": [8], "activation_fn": torch.nn.ELU}}


@pytest.mark.parametrize("arguments", [{}, GENERAL], ids=["written out", "general"])
class TestANaN:
    """It is an error that names it."""

    def broken(self, model: PPO, name: str) -> None:
        with torch.no_grad():
            model.policy.get_parameter(name).view(-1)[0] = torch.nan

    @pytest.mark.parametrize("name", ["action_net.weight", "mlp_extractor.value_net.0.bias", "log_std"])
    def test_in_the_policy_when_it_acts_or_learns(self, arguments, name):
        with pytest.raises(ValueError, match=name):
            learned(LeanPPO, callback=Watch(rollout_start=lambda c: self.broken(c.model, name)), **arguments)
        model = learned(LeanPPO, n_rollouts=1, **arguments)
        self.broken(model, name)
        with pytest.raises(ValueError, match=name):
            model.train()

    def test_in_an_observation(self, arguments):
        def spoil(callback: Any) -> None:
            callback.model._last_obs[0, 1] = np.nan

        with pytest.raises(ValueError, match="an observation is NaN or infinite in environment 0 at step 0: "):
            learned(LeanPPO, callback=Watch(rollout_start=spoil), **arguments)
        model = learned(LeanPPO, n_rollouts=1, **arguments)
        model.rollout_buffer.observations[3] = np.nan
        with pytest.raises(ValueError, match="observations have a NaN"):
            model.train()

    @pytest.mark.parametrize("name", ["returns", "advantages", "log_probs"])
    def test_in_what_is_learned_from(self, arguments, name):
        model = learned(LeanPPO, n_rollouts=1, **arguments)
        getattr(model.rollout_buffer, name)[5] = np.nan
        with pytest.raises(ValueError, match=f"{name} are NaN or infinite, first in environment 0 at step 6"):
            model.train()

    def test_in_a_reward(self, arguments):
        def spoil(callback: Any) -> None:
            callback.locals["rewards"][0] = np.nan

        with pytest.raises(ValueError, match="rewards are NaN or infinite, first in environment 0 at step "):
            learned(LeanPPO, callback=Watch(step=spoil), **arguments)

    def test_in_a_loss(self, arguments):
        model = learned(LeanPPO, n_rollouts=1, **arguments)
        model.ent_coef = float("nan")
        with pytest.raises(ValueError, match="policy loss is NaN, first in mini-batch 2 of 4"):
            model.train()


def test_torchs_checks_of_arguments_stay_on_for_everybody_else():
    checks = []

    def look(*_: Any) -> None:
        checks.append(Distribution._validate_args)
        with pytest.raises(ValueError, match="scale"):
            Normal(torch.zeros(1), -torch.ones(1))

    model = learned(LeanPPO, n_rollouts=1, **GENERAL)
    model.policy.action_net.register_forward_hook(look)
    model.train()
    assert checks == [True] * 4
    assert type(model.policy.action_dist).__name__ == "DiagGaussianDistribution"
    assert model.policy.optimizer.param_groups[0]["foreach"] is None


def test_one_debug_line_tells_which_loop_is_in_use(caplog):
    model = made(LeanPPO)
    with caplog.at_level(logging.DEBUG, logger="sb3_tare"):
        model.learn(2 * STEPS)
    assert [record.getMessage() for record in caplog.records] == ["LeanPPO: rollouts: written out, updates: written out"]
