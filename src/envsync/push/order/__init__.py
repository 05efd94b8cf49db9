"""What a push is told: values, before any server is asked."""
