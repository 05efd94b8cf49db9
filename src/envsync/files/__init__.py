"""envsync's own files: where a user's are kept, and how one is written atomically."""
