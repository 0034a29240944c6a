"""What a user would pick instead of Frostline, each as its users run it."""
