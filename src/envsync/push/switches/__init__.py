"""Rollback and remove, and what became of a switch whose answer was lost."""
