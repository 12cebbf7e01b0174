"""A host's objective, its action distributions, and products with their curvature."""
