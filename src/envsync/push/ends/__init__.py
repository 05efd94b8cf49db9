"""The two ends of a push, sources and targets, local or remote, behind the same calls."""
