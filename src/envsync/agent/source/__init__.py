"""The source's end: scanning, reading and relocating. Nothing here writes into an environment."""
