"""Rollouts that a host collected, as rows of tensors, cut into pieces of episodes."""
