"""The method `pack`: an archive is made, unpacked in private, and pushed like any other source."""
