"""The commands: each reads from top to bottom like a recipe."""
