"""A push from the command line: what it means, how it is followed, what it did."""
