"""Where an environment and its versions are, who may change them, and what is on record."""
