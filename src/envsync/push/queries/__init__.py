"""Queries to servers without a push, and what `doctor` makes of them."""
