"""Preflight: what forbids a push, what a person should know about it, and the hints."""
