"""The arithmetic on raw arrays, without params and without state."""
