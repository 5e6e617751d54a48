"""The training loop: schedule, sampling, checkpoints, processes."""
