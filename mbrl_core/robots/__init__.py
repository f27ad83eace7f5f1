"""Drivers: joint angles over a wire."""
