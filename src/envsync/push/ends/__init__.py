"""The two ends of a push: sources and targets, here and elsewhere, by the same calls."""
