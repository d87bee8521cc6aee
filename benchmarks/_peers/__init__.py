"""The libraries of `peers.py`, a module each, with `jobs(row, x, y)` -> {form: Job}, {} for rows it lacks."""
