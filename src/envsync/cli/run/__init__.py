"""The beginning and end of a run of the command."""
