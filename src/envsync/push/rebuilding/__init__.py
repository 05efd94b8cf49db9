"""The method `rebuild`: the target's own tools make the environment, and pins are relaxed."""
