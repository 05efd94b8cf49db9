"""The two ends of a push: sources and targets, local or remote, by the same calls."""
