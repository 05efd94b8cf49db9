"""What the steps of the cycle do that take more than a line, their pace, and the report."""
