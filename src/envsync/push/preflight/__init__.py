"""Preflight: what forbids a push, what a person should know, and the hint that helps."""
