"""Rollback and remove, and finding out what became of a switch whose answer was lost."""
