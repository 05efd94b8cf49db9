"""Coverage-guided fuzzing of the decoders of foreign data. See `__main__`."""
