"""Many targets at once: opened, pushed to, ended together."""
