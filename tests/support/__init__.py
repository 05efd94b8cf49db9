"""What tests of several rooms build on: trees as values and on disk, pushes in one process."""
