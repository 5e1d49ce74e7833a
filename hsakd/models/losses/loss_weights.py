import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from hsakd.utils.errors import ConfigError


class LossWeights:
    """Factors of the terms of a loss, for ablations; a term of weight 0 is left out.

    Args:
        weights: Factor by name of the term, as the log shows it (``loss_kd_aux_1``), or by the name
            of a group without its number (``loss_kd_aux``), which the single name overrides. Terms
            that are not named have 1.
        terms: The names that there are.

    Raises:
        ConfigError: A name is none of them, a weight no number from 0, or every weight 0.
    """

    def __init__(self, weights: Mapping[str, float] | None, terms: Sequence[str]) -> None:
        self.weights = dict(weights or {})
        known = [*terms, *dict.fromkeys(_group(term) for term in terms if _group(term) != term)]
        for name, weight in self.weights.items():
            if name not in known:
                raise ConfigError(
                    f'model.loss_weights.{name}: no such term; accepted are {", ".join(known)}'
                )
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
                raise ConfigError(
                    f'model.loss_weights.{name}={weight!r}: accepted are numbers from 0 (off)'
                )
        if not any(self.of(term) for term in terms):
            raise ConfigError(
                f'model.loss_weights={self.weights}: every term is off; accepted is at least one '
                f'above 0 of {", ".join(terms)}'
            )

    def of(self, term: str) -> float:
        """The factor of one term."""
        return self.weights.get(term, self.weights.get(_group(term), 1.0))

    def __call__(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses times their weights, without those that are off."""
        if not self.weights:
            return losses
        return {term: self.of(term) * loss for term, loss in losses.items() if self.of(term)}


def _group(term: str) -> str:
    return re.sub(r'_\d+$', '', term)
