"""Algorithms that learned rewards are compared with."""
