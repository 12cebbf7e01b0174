"""The reward learner: Algorithm 1 around the updates of a host."""
