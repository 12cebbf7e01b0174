"""The gradient of the reward through a policy's update."""
