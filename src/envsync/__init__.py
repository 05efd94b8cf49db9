"""envsync keeps conda environments the same on all servers of a lab."""

__version__ = "0.1.0"
