"""Spaces that a search of hyperparameters explores, in rl-zoo3's Optuna interface.

A space suggests flat numbers and names to a trial; ``convert`` makes arguments of them, for the trial itself and when
rl-zoo3 reads them back from a storage. As rl-zoo3 lets what is sampled replace an argument whole, ``reward_kwargs`` holds
nothing but what is sampled: what the yaml file says of the reward does not enter a search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from rl_zoo3.hyperparams_opt import convert_onpolicy_params, sample_ppo_params

REWARDS: dict[str, dict[str, Any]] = {
    "LSTMbMul": {"architecture": "LSTMbMul"},
    "MLPMul": {"architecture": "MLPMul"},
    "StateAction": {"architecture": "StateAction"},
}
"""Reward networks of the implicit gradient, by what a trial calls them."""

LIRPG_REWARDS: dict[str, dict[str, Any]] = {
    "StateActionTanh": {"architecture": "StateActionTanh"},
    "LSTMbMul": {"architecture": "LSTMbMul"},
}
"""Reward networks of LIRPG: its own, and the one that TARE gives it."""

NETWORKS = {"small": [64, 64], "medium": [128, 64], "big": [256, 256]}
"""Hidden layers of AWR's policy and critic, by what a trial calls them."""


@dataclass(frozen=True)
class SearchSpace:
    """A space of hyperparameters.

    :param suggest: has a trial choose its flat parameters, given the number of actions and of environments
    :param convert: makes arguments of the algorithm of them
    """

    suggest: Callable[[optuna.Trial, int, int], None]
    convert: Callable[[dict[str, Any]], dict[str, Any]]

    def sample(self, trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
        """The arguments that ``trial`` tries; rl-zoo3's signature, whose last argument is for hindsight replay."""
        self.suggest(trial, n_actions, n_envs)
        return self.convert(trial.params)


def _suggest_ppo(trial: optuna.Trial, n_actions: int, n_envs: int) -> None:
    sample_ppo_params(trial, n_actions, n_envs, {})


def _suggest_reward(trial: optuna.Trial) -> None:
    if trial.suggest_categorical("reward_preset", ["decomposition", "implicit"]) == "decomposition":
        trial.suggest_categorical("reward_decomposition_steps", [16, 64, 256])
        trial.suggest_int("reward_decomposition_updates", 10, 100, log=True)
        trial.suggest_float("reward_decomposition_learning_rate", 1e-4, 1e-2, log=True)
    else:
        _suggest_implicit(trial)


def _suggest_implicit(trial: optuna.Trial) -> None:
    trial.suggest_categorical("reward_network", list(REWARDS))
    trial.suggest_categorical("reward_mode", ["add", "replace"])
    trial.suggest_categorical("reward_validation", ["split", "next_rollout"])
    trial.suggest_categorical("reward_actor_parameters", ["all", "without_log_std"])
    trial.suggest_int("reward_n_reward_updates", 1, 10, log=True)
    trial.suggest_float("reward_learning_rate", 1e-5, 1e-2, log=True)


def _convert_reward(params: dict[str, Any]) -> dict[str, Any]:
    """Take what was sampled of the reward together, and leave the rest as it is."""
    host = {name: value for name, value in params.items() if not name.startswith("reward_")}
    reward = {name.removeprefix("reward_"): value for name, value in params.items() if name.startswith("reward_")}
    if "network" in reward:
        reward.update({**REWARDS, **LIRPG_REWARDS}[reward.pop("network")], reward_mode=reward.pop("mode"))
    return {**host, "reward_kwargs": reward}


def _suggest_tare_ppo(trial: optuna.Trial, n_actions: int, n_envs: int) -> None:
    """The host's as PPO's own in rl-zoo3, for a fair comparison."""
    _suggest_ppo(trial, n_actions, n_envs)
    _suggest_reward(trial)


def _convert_tare_ppo(params: dict[str, Any]) -> dict[str, Any]:
    return convert_onpolicy_params(_convert_reward(params))


def _suggest_lirpg(trial: optuna.Trial, n_actions: int, n_envs: int) -> None:
    _suggest_ppo(trial, n_actions, n_envs)
    trial.suggest_categorical("reward_network", list(LIRPG_REWARDS))
    trial.suggest_categorical("reward_mode", ["add", "replace"])
    trial.suggest_float("reward_learning_rate", 1e-5, 1e-3, log=True)


def _convert_lirpg(params: dict[str, Any]) -> dict[str, Any]:
    return convert_onpolicy_params(_convert_reward(params))


def _suggest_awr(trial: optuna.Trial, n_actions: int, n_envs: int) -> None:
    trial.suggest_float("learning_rate", 1e-6, 1e-3, log=True)
    trial.suggest_float("critic_learning_rate", 1e-3, 0.1, log=True)
    trial.suggest_float("one_minus_gamma", 1e-3, 0.05, log=True)
    trial.suggest_float("one_minus_td_lambda", 1e-3, 0.3, log=True)
    trial.suggest_float("temperature", 0.1, 10.0, log=True)
    trial.suggest_float("max_weight", 5.0, 100.0, log=True)
    trial.suggest_int("batch_size_pow", 6, 10)
    trial.suggest_int("critic_steps", 50, 500, log=True)
    trial.suggest_int("actor_steps", 200, 2000, log=True)
    trial.suggest_categorical("net_arch", list(NETWORKS))
    if n_actions > 0:  # continuous ones
        trial.suggest_float("action_std", 0.1, 0.6)


def _convert_awr(params: dict[str, Any]) -> dict[str, Any]:
    hyperparams = dict(params)
    hyperparams["gamma"] = 1 - hyperparams.pop("one_minus_gamma")
    hyperparams["td_lambda"] = 1 - hyperparams.pop("one_minus_td_lambda")
    hyperparams["batch_size"] = 2 ** hyperparams.pop("batch_size_pow")
    hyperparams["policy_kwargs"] = {"net_arch": NETWORKS[hyperparams.pop("net_arch")]}
    return hyperparams


def _suggest_tare_awr(trial: optuna.Trial, n_actions: int, n_envs: int) -> None:
    _suggest_awr(trial, n_actions, n_envs)
    _suggest_reward(trial)
    trial.suggest_float("reward_damping", 0.01, 1.0, log=True)  # PPO's curvature is that of its Adam, and has none


def _convert_tare_awr(params: dict[str, Any]) -> dict[str, Any]:
    return _convert_awr(_convert_reward(params))


tare_ppo_space = SearchSpace(_suggest_tare_ppo, _convert_tare_ppo)
lirpg_space = SearchSpace(_suggest_lirpg, _convert_lirpg)
awr_space = SearchSpace(_suggest_awr, _convert_awr)
tare_awr_space = SearchSpace(_suggest_tare_awr, _convert_tare_awr)
