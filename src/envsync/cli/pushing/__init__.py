"""A push from the command line: its request, its progress, its report."""
