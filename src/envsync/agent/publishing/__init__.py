"""The switch between versions: guards, check, recovery, and what may be removed afterwards."""
