"""Where an environment and its versions stand, who may change them, and what is on record."""
