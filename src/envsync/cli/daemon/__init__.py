"""The commands below `envsync daemon`: for people, and for its own children."""
