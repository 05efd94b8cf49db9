"""The source's end: scans, reads and relocates an environment, and never writes into it."""
