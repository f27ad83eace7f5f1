"""Tasks: goals, observations and rewards, the same for numpy and torch."""
