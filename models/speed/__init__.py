"""How long a training step takes, and where its time goes."""
