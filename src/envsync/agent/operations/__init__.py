"""The operations of an end, by name; and the process on a server that carries them out."""
