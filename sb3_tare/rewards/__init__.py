"""Learned rewards: the model that is trained, and what of it is exported, paid and fitted to returns."""
