"""The card of a model on the hub: what it is, how well it does, what its reward is, and how to load it."""

from __future__ import annotations

from typing import Any

import stable_baselines3
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sb3_tare import RewardLearner, __version__
from sb3_tare.analysis.environments import Environment
from sb3_tare.hub.evaluating import Results
from sb3_tare.hub.naming import PICTURE, model_name

TEMPLATE = """---
{{ card_data }}
---

# {{ algorithm }} on {{ env_id }}

A `{{ algorithm }}`, trained with [Stable-Baselines3](https://github.com/DLR-RM/stable-baselines3) and sb3-tare for
{{ n_steps }} steps of `{{ env_id }}`{{ made }}{{ behind }}{{ ", on a reward that was learned at the same time" if settings }}.

## Results

| environment | policy | episodes | mean return | standard deviation |
| --- | --- | --- | --- | --- |
| `{{ env_id }}` | {{ policy }} | {{ results.n_episodes }} | {{ mean }} | {{ std }} |

Returns are sums of the environment's own reward.
{% if settings %}
![Extrinsic and learned rewards, and their returns, along an episode]({{ picture }})

An episode of this policy: what the environment paid for each step, and what the learned reward says of it.
{% endif %}
## How to load it

SB3's format holds pickles, which can run anything when they are loaded. **Load models only from people whom you trust**,
and say so by the environment variable `TRUST_REMOTE_CODE=True`.

```python
from {{ module }} import {{ algorithm }}
from sb3_tare.hub import load_from_hub

model = {{ algorithm }}.load(load_from_hub("{{ repo_id }}"))
```
{% if is_beside %}
The learned reward lies beside the model, in `{{ name }}.reward.zip`:
`sb3_tare.RewardLearner.load(load_from_hub("{{ repo_id }}"))` goes on from it.
{% endif %}{% if behind %}
The policy sees observations as `VecNormalize` makes them with the statistics in `vec_normalize.pkl`.
{% endif %}
`sb3-tare load --repo {{ repo_id }} --out logs` puts it where `sb3-tare enjoy` and rl-zoo3 look for models.
{% if settings %}
## Settings of the learned reward

```python
reward_kwargs = {
{%- for name, value in settings.items() %}
    {{ "%r: %r" | format(name, value) }},
{%- endfor %}
}
```
{% endif %}
## Versions

| package | version |
| --- | --- |
{% for package, version in versions.items() -%}
| {{ package }} | {{ version }} |
{% endfor %}"""

TOLD = ("Python", "Stable-Baselines3", "PyTorch", "Numpy", "Gymnasium")
"""Versions, among those of SB3's ``get_system_info``, that a card tells"""


def model_card(
    model: Any, repo_id: str, environment: Environment, learner: RewardLearner | None, results: Results, normalized: bool
) -> ModelCard:
    """A card with the metadata by which the hub finds and ranks models.

    :param repo_id: repository that the card is for
    :param environment: that the model was trained and evaluated in
    :param learner: of its reward, if it has learned one
    :param normalized: whether the statistics of ``VecNormalize`` lie beside the model
    """
    algorithm, env_id = type(model).__name__, environment.env_id
    is_beside = learner is not None and not hasattr(model, "reward_learner")
    system, _ = stable_baselines3.get_system_info(print_info=False)
    return ModelCard.from_template(
        _metadata(algorithm, env_id, results, learner is not None),
        template_str=TEMPLATE,
        algorithm=algorithm,
        module=_module(model),
        name=model_name(model, env_id),
        repo_id=repo_id,
        env_id=env_id,
        n_steps=f"{model.num_timesteps:,}",
        made=_told(environment),
        behind=" behind `VecNormalize`" if normalized else "",
        results=results,
        mean=f"{results.mean:.2f}",
        std=f"{results.std:.2f}",
        policy="deterministic" if results.deterministic else "stochastic",
        picture=PICTURE,
        is_beside=is_beside,
        settings={} if learner is None else learner.settings.flat(),
        versions={"sb3-tare": __version__, **{name: system[name] for name in TOLD}},
    )


def _told(environment: Environment) -> str:
    """How an environment is made, where that is not by its id alone."""
    kwargs = ", ".join(f"{name}={value!r}" for name, value in environment.kwargs.items())
    wrappers = [
        f"`{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})`"
        for each in environment.env_wrapper()
        for name, arguments in each.items()
    ]
    return (f" with `{kwargs}`" if kwargs else "") + (f" in {', in '.join(wrappers)}" if wrappers else "")


def _metadata(algorithm: str, env_id: str, results: Results, learned: bool) -> ModelCardData:
    """The metadata that ``huggingface_sb3`` gives its cards, with tags of our own."""
    tags = [env_id, "deep-reinforcement-learning", "reinforcement-learning", "stable-baselines3", "sb3-tare"]
    result = EvalResult(
        task_type="reinforcement-learning",
        task_name="reinforcement-learning",
        dataset_type=env_id,
        dataset_name=env_id,
        metric_type="mean_reward",
        metric_name="mean_reward",
        metric_value=str(results),
    )
    return ModelCardData(
        library_name="stable-baselines3",
        tags=[*tags, "reward-learning"] if learned else tags,
        model_name=algorithm,
        eval_results=[result],
    )


def _module(model: Any) -> str:
    """The package from which a model's class is imported: its first part, where that has it."""
    package = type(model).__module__.partition(".")[0]
    return package if package in ("sb3_tare", "stable_baselines3", "sb3_contrib") else type(model).__module__
