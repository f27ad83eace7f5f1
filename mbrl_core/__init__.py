"""Ensemble and meta-learned model-based policy optimisation for robot arms; read `types.py` first."""
