"""What servers are asked without a push: many at once, or one from its first packet on."""
