import math
import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from hsakd.utils.checks import is_number
from hsakd.utils.errors import ConfigError


class LossWeights:
    """Factors of the terms of a loss, for ablations; 0 turns a term off.

    A term that is off stays in the log and in the graph, as 0: so every parameter keeps a gradient,
    as training on several GPUs needs.

    Args:
        weights: Factor by name of the term, as the log shows it (``loss_kd_aux_1``), or by the name
            of a group without its number (``loss_kd_aux``), which the single name overrides. Terms
            that are not named have 1.
        terms: The names that there are.
        idle: Those of them from which nothing learns.

    Raises:
        ConfigError: A name is none of them, a weight no finite number from 0, or every term off.
    """

    def __init__(
        self,
        weights: Mapping[str, float] | None,
        terms: Sequence[str],
        idle: Sequence[str] = (),
    ) -> None:
        if not isinstance(weights, Mapping | None):
            raise ConfigError(
                f'model.loss_weights={weights!r}: accepted is a dict of numbers by name, of '
                f'{", ".join(terms)}'
            )
        self.weights = dict(weights or {})
        known = [*terms, *dict.fromkeys(_group(term) for term in terms if _group(term) != term)]
        for name, weight in self.weights.items():
            if name not in known:
                raise ConfigError(
                    f'model.loss_weights.{name}: no such term; accepted are {", ".join(known)}'
                )
            if not is_number(weight) or not 0 <= weight < math.inf:
                raise ConfigError(
                    f'model.loss_weights.{name}={weight!r}: accepted are numbers from 0 (off)'
                )
        learning = [term for term in terms if term not in idle]
        if not any(self.of(term) for term in learning):
            raise ConfigError(
                f'model.loss_weights={self.weights}: nothing is left to learn from; accepted is a '
                f'weight above 0 for at least one of {", ".join(learning)}'
            )

    def of(self, term: str) -> float:
        """The factor of one term."""
        return self.weights.get(term, self.weights.get(_group(term), 1.0))

    def __call__(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses times their weights."""
        if not self.weights:
            return losses
        return {term: self.of(term) * loss for term, loss in losses.items()}


def _group(term: str) -> str:
    return re.sub(r'_\d+$', '', term)
