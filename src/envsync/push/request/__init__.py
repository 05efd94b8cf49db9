"""What a push is told, as values: settings, method and places."""
