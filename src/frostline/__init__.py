"""Frostline: how much of a pretrained text encoder should you thaw, and what does thawing cost?"""

__version__ = "0.1.0"
