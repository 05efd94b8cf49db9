"""The end that a version comes from. Nothing here writes into an environment."""
