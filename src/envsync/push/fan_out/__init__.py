"""Pushes to many targets at once."""
