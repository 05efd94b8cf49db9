"""One run: its options, the servers that it knows, and how it asks them."""
