"""The training loop, its optimiser and schedule, scheduled sampling, messages, and Ctrl-C."""
