"""Saving and loading trees: safetensors files, and folders by orbax."""

from jaxnn.io._checkpoint import load, save

__all__ = ["load", "save"]
