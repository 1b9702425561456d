"""Training, and the plan that comes before it."""
