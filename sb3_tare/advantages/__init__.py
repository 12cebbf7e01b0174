"""Advantages as differentiable linear maps of rewards."""
