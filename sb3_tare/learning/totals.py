"""The fit of a reward to totals of episodes, wherever the episodes are kept and whatever scale it is paid in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb3_tare.hosts.host import AnyHost
from sb3_tare.learning.metrics import Metrics
from sb3_tare.rewards.action_cost import ActionCost, action_cost_for
from sb3_tare.rewards.decomposed import DecomposedReward
from sb3_tare.rewards.decomposition import Decomposition, Memory, r_squared
from sb3_tare.rewards.open_episodes import FinishedEpisodes
from sb3_tare.rewards.reward_model import RewardModel
from sb3_tare.settings.groups import DecompositionSettings
from sb3_tare.utils.nested import Observations, map_tensors, on_cpu

JUDGED_EPISODES = 10
"""Totals that have to be there before it is said how well they were foreseen; of two it says nothing."""


class TotalsFit:
    """Network, cost of actions and unit of a decomposed reward, and how they follow from whole episodes.

    :param settings: of the decomposition
    :param host: gives the action space and the device
    :param model: a reward model whose network is a :class:`~sb3_tare.rewards.decomposed.DecomposedReward`
    :param generator: decides which steps are drawn
    :param n_settling: first fits each of which takes a new unit
    """

    def __init__(
        self,
        settings: DecompositionSettings,
        host: AnyHost[Any],
        model: RewardModel,
        generator: torch.Generator,
        n_settling: int = 0,
    ) -> None:
        assert isinstance(model.network, DecomposedReward)
        self.settings = settings
        self.host = host
        self.model = model
        self.reward = model.network
        self.generator = generator
        n_numbers = self.reward.moments.mean.numel() if model.extractor is None else 0
        space = host.model.action_space
        self.cost: ActionCost | None = action_cost_for(space, n_numbers) if settings.action_cost else None
        parameters = [each for each in (*self.reward.network.parameters(), *self._extractors()) if each.requires_grad]
        self.fits = Decomposition(self._in_units, parameters, settings, n_settling)
        self._judged = torch.zeros(0, 2, dtype=torch.float64)

    @property
    def has_learned(self) -> bool:
        """Whether the reward was fitted, here or where it was loaded from, so that it says something."""
        return float(self.reward.unit) != 0.0 or float(self.reward.action_cost) != 0.0

    def judge(self, finished: FinishedEpisodes, metrics: Metrics) -> None:
        """Note the share of the variance of new totals that the reward explains before it is fitted to them."""
        if self.fits.unit > 0.0:
            with torch.no_grad():
                predicted = self.fits.predicted_totals(finished, float(self.reward.action_cost))
            self._judged = torch.cat([self._judged, torch.stack([predicted, finished.totals], dim=1)])
        if len(self._judged) >= JUDGED_EPISODES:
            metrics.note_finite(decomposition_r2=r_squared(*self._judged.T))
            self._judged = self._judged[:0]

    def add_to_cost(self, finished: FinishedEpisodes) -> None:
        """Add episodes to those that are compared with each other when the cost of actions is solved."""
        if self.cost is None:
            return
        observations = None
        if self.cost.observation_dim > 0:
            states = self._seen(finished.states)
            assert isinstance(states, Tensor)
            with torch.no_grad():
                observations = self.reward.moments(states).cpu()
        self.cost.add(finished, observations)

    def solve_action_cost(self, metrics: Metrics) -> None:
        """Solve the cost of actions anew, if there are episodes to compare since the last call, of about one policy."""
        if self.cost is None or not self.cost.close():
            return
        estimate = self.cost.estimate()
        if estimate.t_value != 0.0:  # otherwise nothing can be said yet, and what was loaded stays
            self.reward.action_cost.fill_(estimate.coefficient)
        metrics.note_finite(action_cost=float(self.reward.action_cost), action_cost_t=estimate.t_value)

    def fit(self, memory: Memory, n_updates: int, metrics: Metrics, beside: Tensor | None = None) -> bool:
        """Take ``n_updates`` steps towards the totals of the episodes in ``memory``.

        :param beside: ``[p]`` of norm 1, a direction that they climb too
        :return: whether there was something to fit to
        """
        self.fits.follow(self.host.progress)
        loss = self.fits.fit(memory, self.generator, float(self.reward.action_cost), n_updates, beside)
        if self.fits.has_fitted:  # and until then what was loaded stays
            self.reward.unit.fill_(self.fits.unit)
        if loss is not None:
            metrics.note(decomposition_loss=loss)
        return loss is not None

    def start_as_loaded(self) -> None:
        """Go on from a network, a unit and a cost of actions that were loaded, until fits and estimates renew them."""
        self.fits.unit = float(self.reward.unit)
        self._drop_cost()

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs beside the reward model's parameters and buffers, and the memory."""
        return {
            "cost": None if self.cost is None else self.cost.state_dict(),
            "fits": self.fits.state_dict(),
            "judged": self._judged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over, from any device.

        :raises ValueError: if observations had another size
        """
        state = on_cpu(dict(state))
        if self.cost is not None and state["cost"] is not None:
            self.cost.load_state_dict(state["cost"])
        self.fits.load_state_dict(state["fits"])
        self._judged = state["judged"]
        self._drop_cost()

    def _drop_cost(self) -> None:
        """Forget a cost of actions that was loaded where the settings want none."""
        if self.cost is None:
            self.reward.action_cost.zero_()

    def _seen(self, states: Observations) -> Observations:
        """States ``[n, ...]`` of the memory as the reward sees them, on the model's device."""
        return map_tensors(states, lambda tensor: tensor.to(self.host.device))

    def _in_units(self, states: Observations, actions: Tensor) -> Tensor:
        return self.reward.in_units(self.model.features(self._seen(states)), actions.to(self.host.device)).cpu()

    def _extractors(self) -> list[torch.nn.Parameter]:
        return [] if self.model.extractor is None else list(self.model.extractor.parameters())
