"""One run: what it was told, the servers that it sees, and how it asks them."""
