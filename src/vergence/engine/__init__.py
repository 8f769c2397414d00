"""Training and evaluation: the loop, a step, checkpoints, features and scores."""
