"""Layers with params, one file a family."""
