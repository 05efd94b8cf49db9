"""The parameters of a push, as values: settings, method and places."""
