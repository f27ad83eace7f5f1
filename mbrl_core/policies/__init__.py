"""Policies and their export."""
