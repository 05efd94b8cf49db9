"""Texts for people: sizes with their unit; texts without credentials and control characters."""
