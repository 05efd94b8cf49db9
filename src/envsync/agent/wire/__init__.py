"""What goes between two ends: messages as values, frames with liveness, and blocks of contents."""
