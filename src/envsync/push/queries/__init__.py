"""Queries to servers without a push, and `doctor`'s diagnosis."""
