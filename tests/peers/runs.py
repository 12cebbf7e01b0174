"""The runs: which class stands in for which of a peer's, where it is known to deviate, and what is not asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import stand_ins

from sb3_tare import LIRPG, TAREPPO, LeanA2C, LeanPPO

Reasons = Mapping[str, str]
"""Reasons by the beginnings of tests' names, ``file::function[parameters]``"""


@dataclass(frozen=True)
class Run:
    """One class over one peer's tests.

    :param package: of the peer, which imports the class by name
    :param peer: name of its class
    :param stand_in: class in its place
    :param deviations: tests that must fail
    :param left_out: tests that are about something else
    """

    package: str
    peer: str
    stand_in: type
    deviations: Reasons = field(default_factory=dict)
    left_out: Reasons = field(default_factory=dict)


ONE_STEP = {
    "test_run::test_ppo_warnings": "rollouts of one step are refused: an advantage needs a step to be compared with",
}
EDITED = {
    "test_save_load::test_load_invalid_object": "a file whose entry somebody replaced is refused, as its checksums tell",
}
FROM_RANDOM = "a test of how fast it learns: LIRPG's reward starts at random"
OF_LIRPG = {
    "test_custom_policy::test_custom_optimizer[None": "LIRPG differentiates through plain Adam, and refuses AdamW's decay",
    "test_identity::test_discrete": FROM_RANDOM,
    "test_identity::test_continuous": FROM_RANDOM,
}
OF_A2C = {
    "test_callbacks::test_callbacks_can_cancel_runs": "rollouts of one step are refused: a reward is learned from two",
    "test_gae::test_infinite_horizon[True": "the policy's critic is of learned rewards, in the scale in which they are paid",
    "test_identity::test_discrete[env1": "a test of how fast it learns: of so few whole episodes, totals tell little of steps",
}
NAME_IN_WARNING = {"test_run::test_ppo_warnings": "the warning names the class, LeanPPO, where the test looks for PPO"}

HINDSIGHT = "hindsight relabels a replay buffer; AWR's memory holds paths"
NOT_OF_AWR = {
    "test_her": HINDSIGHT,
    "test_vec_normalize::test_her_normalization": HINDSIGHT,
    "test_callbacks::test_eval_success_logging": HINDSIGHT,
    "test_n_step_replay": "n-step returns are a replay buffer's; AWR's are TD(lambda) over paths",
    "test_sde": "AWR explores by its Gaussian alone",
    "test_spaces::test_sde_multi_dim": "AWR explores by its Gaussian alone",
    "test_run::test_sac": "about SAC's entropy coefficient",
    "test_save_load::test_save_load_pytorch_var": "about SAC's entropy coefficient",
    "test_run::test_n_critics": "AWR has one critic",
    "test_run::test_dqn": "about DQN's exploration",
    "test_run::test_warn_dqn_multi_env": "AWR has no target network",
    "test_run::test_offpolicy_multi_env": "counts gradient steps by SAC's and DQN's argument gradient_steps",
    "test_save_load::test_warn_buffer": "AWR's memory has no memory-saving variant",
    "test_save_load::test_save_load_q_net": "AWR has no Q-network",
    "test_save_load::test_dqn_target_update_interval": "AWR has no target network",
    "test_save_load::test_save_load_no_target_params": "about old files of DQN",
    "test_cnn::test_features_extractor_target_net": "AWR has no target network",
    "test_custom_policy::test_custom_offpolicy": "AWR has no Q-network",
    "test_train_eval_mode::test_sac_train_with_batch_norm": "AWR has no target network",
    "test_train_eval_mode::test_dqn_train_with_batch_norm": "AWR has no target network",
    "test_train_eval_mode::test_offpolicy_collect_rollout_batch_norm": "the test reads networks of SAC and DQN",
    "test_train_eval_mode::test_predict_with_dropout_batch_norm": "the test reads networks of SAC and DQN",
    "test_identity": "SAC and DQN are to learn in fewer steps than AWR collects in one of its iterations",
}
NOT_OF_AWR_FOR_SAC = {
    **NOT_OF_AWR,
    "test_gae::test_infinite_horizon": "the test reads SAC's critics",
    "test_save_load::test_save_load_policy": "the test reads SAC's actor; it is run in place of DQN",
}
ALL_ACTIONS = "AWR takes discrete and continuous actions; the test expects one kind to be refused"
AWR_FOR_SAC = {"test_spaces::test_action_spaces[CartPole": ALL_ACTIONS}
AWR_FOR_DQN = {
    "test_spaces::test_action_spaces[Pendulum": ALL_ACTIONS,
    "test_spaces::test_action_spaces[env2": ALL_ACTIONS,
    "test_callbacks::test_eval_callback_logs": "the test looks for a log in a folder DQN_1, and AWR's is AWR_1",
}
FEW = "memories and iterations of one or two steps are refused: a reward is learned from at least four"
TAREAWR_FOR_SAC = {
    **AWR_FOR_SAC,
    "test_callbacks::test_callbacks_can_cancel_runs": FEW,
    "test_custom_policy::test_custom_optimizer": FEW,
}
TAREAWR_FOR_DQN = {
    **AWR_FOR_DQN,
    "test_custom_policy::test_custom_optimizer": FEW,
    "test_save_load::test_save_load_policy[False-CnnPolicy": FEW,
}

RUNS = {
    "TAREPPO": Run("stable_baselines3", "PPO", TAREPPO, ONE_STEP | EDITED),
    "TAREPPO, implicit": Run("stable_baselines3", "PPO", stand_ins.ImplicitTAREPPO, ONE_STEP | EDITED),
    "LIRPG": Run("stable_baselines3", "PPO", LIRPG, ONE_STEP | EDITED | OF_LIRPG),
    "LeanPPO": Run("stable_baselines3", "PPO", LeanPPO, NAME_IN_WARNING),
    "LeanA2C": Run("stable_baselines3", "A2C", LeanA2C),
    "A2C that learns its reward": Run("stable_baselines3", "A2C", stand_ins.TAREA2C, OF_A2C),
    "TRPO with callback": Run("sb3_contrib", "TRPO", stand_ins.LearnedTRPO),
    "MaskablePPO with callback": Run("sb3_contrib", "MaskablePPO", stand_ins.LearnedMaskablePPO),
    "AWR for SAC": Run("stable_baselines3", "SAC", stand_ins.OffPolicyAWR, AWR_FOR_SAC, NOT_OF_AWR_FOR_SAC),
    "AWR for DQN": Run("stable_baselines3", "DQN", stand_ins.OffPolicyAWR, AWR_FOR_DQN, NOT_OF_AWR),
    "TAREAWR for SAC": Run("stable_baselines3", "SAC", stand_ins.OffPolicyTAREAWR, TAREAWR_FOR_SAC, NOT_OF_AWR_FOR_SAC),
    "TAREAWR for DQN": Run("stable_baselines3", "DQN", stand_ins.OffPolicyTAREAWR, TAREAWR_FOR_DQN, NOT_OF_AWR),
}
