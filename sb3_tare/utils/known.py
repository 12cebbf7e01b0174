"""Classes that saved rewards, reward learners and replay memories may name, and a reader that takes no others.

A pickle names functions and has them called. Here every name that is not in the list below becomes an :class:`Unread`, which
does nothing whatever is done to it: reading a file runs nothing of what it brings along.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from typing import Any

import torch

KNOWN = {
    "builtins": ("set", "frozenset"),
    "collections": ("OrderedDict", "deque"),
    "gymnasium.spaces.box": ("Box",),
    "gymnasium.spaces.dict": ("Dict",),
    "gymnasium.spaces.discrete": ("Discrete",),
    "gymnasium.spaces.multi_binary": ("MultiBinary",),
    "gymnasium.spaces.multi_discrete": ("MultiDiscrete",),
    "numpy": ("dtype", "ndarray"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.numeric": ("_frombuffer",),
    "numpy.random._pcg64": ("PCG64",),
    "numpy.random._pickle": ("__bit_generator_ctor", "__generator_ctor"),
    "numpy.random.bit_generator": ("SeedSequence", "__pyx_unpickle_SeedSequence"),
    "sb3_tare.awr.memory": ("PathMemory", "DictPathMemory"),
    "sb3_tare.awr.normalizer": ("NormalizedExtractor", "ObservationNormalizer"),
    "sb3_tare.networks.concatenated": ("LSTMb", "LSTMf", "MLPConcat"),
    "sb3_tare.networks.multiplicative": ("LSTMbMul", "MLPMul"),
    "sb3_tare.networks.state_action": ("StateAction", "StateActionTanh", "StateActionUnbounded"),
    "sb3_tare.envs.minigrid": ("GridFeatures",),
    "sb3_tare.utils.moments": ("RunningMoments",),
    "stable_baselines3.common.buffers": ("DictReplayBuffer", "ReplayBuffer"),
    "stable_baselines3.common.running_mean_std": ("RunningMeanStd",),
    "stable_baselines3.common.torch_layers": ("CombinedExtractor", "FlattenExtractor", "NatureCNN"),
    "stable_baselines3.common.vec_env.vec_normalize": ("VecNormalize",),
    "torch": ("Size", "device", "float32", "float64", "int64", "uint8", "bool"),
    "torch._utils": ("_rebuild_parameter", "_rebuild_tensor_v2"),
    "torch.nn.modules.activation": ("ELU", "GELU", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh"),
    "torch.nn.modules.container": ("ModuleDict", "ModuleList", "Sequential"),
    "torch.nn.modules.conv": ("Conv1d", "Conv2d"),
    "torch.nn.modules.dropout": ("Dropout",),
    "torch.nn.modules.flatten": ("Flatten",),
    "torch.nn.modules.linear": ("Identity", "Linear"),
    "torch.nn.modules.normalization": ("LayerNorm",),
    "torch.nn.modules.pooling": ("AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "MaxPool2d"),
    "torch.nn.parameter": ("Parameter",),
}
"""Names by module. None of them opens a file, starts a program or looks up another name."""


MOVED_NETWORKS = {
    "scaled_times": "inputs",
    "BoundedHead": "layers",
    "EpisodeLSTM": "layers",
    "MultiplicativeEmbedding": "layers",
    "LSTMbMul": "multiplicative",
    "MLPMul": "multiplicative",
    "LSTMb": "concatenated",
    "LSTMf": "concatenated",
    "MLPConcat": "concatenated",
    "StateAction": "state_action",
    "StateActionTanh": "state_action",
}
"""Modules of ``sb3_tare.networks`` that hold today what it held itself."""


class _Inert(type):
    """The kind of classes that make nothing when they are called, and take entries without keeping them."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return cls

    def __setitem__(cls, _: Any, __: Any) -> None: ...


class Unread(metaclass=_Inert):
    """Stand-in for a class, a function or what they would have made, of which the file tells the name alone.

    Classes and their instances stand in alike, since a pickle may ask for either; all that it can do to them does nothing.
    """

    def __init__(self, *_: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    @staticmethod
    def __setstate__(*_: Any) -> None: ...

    @staticmethod
    def append(*_: Any) -> None:
        """Do nothing."""

    extend = add = append


class KnownUnpickler(pickle.Unpickler):
    """Reads pickles, of which it makes nothing but what is known.

    :param file: open
    :param classes: known beside those of :data:`KNOWN`, since they are the caller's own
    """

    def __init__(self, file: Any, classes: Iterable[type] = ()) -> None:
        super().__init__(file)
        self._classes = {(each.__module__, each.__qualname__): each for each in classes}
        self.unread: list[str] = []
        """Names that were not known, in the order in which they came"""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function ``name`` of ``module`` if it is known, else a stand-in."""
        module = module.replace("numpy.core.", "numpy._core.")  # as NumPy 1 called it
        if module == "sb3_tare.networks" and name in MOVED_NETWORKS:
            module = f"{module}.{MOVED_NETWORKS[name]}"
        if (module, name) in self._classes:
            return self._classes[module, name]
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage
        if name in KNOWN.get(module, ()):
            return super().find_class(module, name)
        self.unread.append(f"{module}.{name}")
        return _Inert(name, (Unread,), {"__module__": module})


def _storage(content: bytes) -> Any:
    """A tensor's numbers, which torch's own function for them would unpickle as they come."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
