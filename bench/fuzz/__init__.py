"""Coverage-guided fuzzing of what comes from the other side. See `__main__`."""
