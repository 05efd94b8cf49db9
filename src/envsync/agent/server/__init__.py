"""What a server is and has: filesystems, processes and programs."""
