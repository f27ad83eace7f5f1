"""Learned dynamics and imagination."""
