"""Files of envsync's own: where a user's are kept, and how one is written whole."""
