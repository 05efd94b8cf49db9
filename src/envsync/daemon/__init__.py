"""The service: keeps environments in step by itself, under systemd or on a terminal."""
