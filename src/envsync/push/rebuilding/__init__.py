"""The method `rebuild`: the target makes the environment anew, and pins give way."""
