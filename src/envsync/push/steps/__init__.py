"""The longer steps of the cycle, their progress, and the report."""
