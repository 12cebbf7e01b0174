"""Costs of what the package does: ratios, measured in one run."""
