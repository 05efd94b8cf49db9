"""Parts for tests of rebuilding: a command like conda's, channels, and wheels."""
