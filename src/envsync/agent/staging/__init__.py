"""Building the next version beside the one that stands there, from whatever is there or comes."""
