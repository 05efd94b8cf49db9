"""What rebuilding is tested with: a command like conda's, a channel, and wheels."""
