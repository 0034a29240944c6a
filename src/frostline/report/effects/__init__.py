"""The effects on which claims are decided: one number with its interval, from the finished runs of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from frostline.report.arms import Arm
from frostline.report.effects.bias import (
    gap_of_full_over_frozen,
    gap_with_annotation_bias,
    gap_with_imbalance,
    gap_with_scarcity,
    least_step_with_skew,
    misreading_of_dialect,
    stereotypes_in_the_encoder,
    upstream_downstream_correlation,
)
from frostline.report.effects.evidence import Effect
from frostline.report.effects.spaces import (
    change_of_the_space,
    depth_of_meaning_over_form,
    mean_over_cls,
    probe_share_of_gain,
    top_over_bottom_change,
    upper_share_of_gain,
)
from frostline.report.effects.thawing import (
    best_remedy,
    compromise,
    forgetting_with_narrowness,
    forgetting_with_rate,
    forgetting_with_scarcity,
    frozen_over_full,
    gap_of_small_data,
    gap_per_tenfold_parameters,
    probe_first_out_of_domain,
)

__all__ = ["EFFECTS", "Effect"]

EFFECTS: dict[str, Callable[[Sequence[Arm], Path], Effect]] = {
    function.__name__: function
    for function in (
        depth_of_meaning_over_form,
        probe_share_of_gain,
        upper_share_of_gain,
        change_of_the_space,
        top_over_bottom_change,
        mean_over_cls,
        gap_of_small_data,
        gap_per_tenfold_parameters,
        frozen_over_full,
        forgetting_with_rate,
        forgetting_with_scarcity,
        forgetting_with_narrowness,
        compromise,
        probe_first_out_of_domain,
        best_remedy,
        stereotypes_in_the_encoder,
        least_step_with_skew,
        gap_with_scarcity,
        gap_with_annotation_bias,
        gap_with_imbalance,
        gap_of_full_over_frozen,
        upstream_downstream_correlation,
        misreading_of_dialect,
    )
}
