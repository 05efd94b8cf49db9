"""Where a run of the command begins and ends."""
