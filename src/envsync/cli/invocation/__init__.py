"""One run: its options, the servers that it sees, and how it asks them."""
