"""Functional neural networks and whole training runs on JAX."""
