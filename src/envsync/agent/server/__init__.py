"""The server itself: its filesystems, processes and programs."""
