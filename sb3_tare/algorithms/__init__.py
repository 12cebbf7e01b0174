"""The algorithms that own a reward learner: thin classes."""
