"""Training runs: the trainer, the run, and what is kept of them."""
