"""Full fine-tuning: everything trains, embeddings included."""

from __future__ import annotations

from frostline.strategies.partial import PartialClassifier


class FullClassifier(PartialClassifier):
    """Frozen depth 0: the same computation as :class:`PartialClassifier` on an encoder split at 0."""
