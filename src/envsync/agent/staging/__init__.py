"""Builds the next version beside the live one, from files on the server and files received."""
