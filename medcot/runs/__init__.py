"""The run directory: the only state that outlives a process."""
