"""Pretrained text encoders: load their weights, split them at a frozen depth, pool their token states."""
