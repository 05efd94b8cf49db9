"""Other switches than a push's, and what became of any whose answer was lost."""
