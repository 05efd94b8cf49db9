"""The method `rebuild`: the target's own tools build the environment, and pins are relaxed."""
