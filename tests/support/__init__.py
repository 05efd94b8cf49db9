"""Helpers that tests of several rooms use: trees as values and on disk, in-process pushes."""
