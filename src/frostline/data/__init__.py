"""Where texts come from, how they are split and batched: one DataModule for all strategies."""
