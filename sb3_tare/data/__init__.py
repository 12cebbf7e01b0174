"""What a host collected: rollouts as rows of tensors, cut into pieces of episodes."""
