"""What an end can be asked for, by name; and the process on a server that answers."""
