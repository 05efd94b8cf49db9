"""What forbids a push, what a person should know of it, and the way out."""
