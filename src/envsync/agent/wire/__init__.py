"""What two ends exchange: messages as values, frames with liveness, and blocks of contents."""
