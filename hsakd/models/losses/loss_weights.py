import math
import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from hsakd.utils.checks import is_number
from hsakd.utils.errors import ConfigError


class LossWeights:
    """Factors of the terms of a loss; 0 turns a term off.

    A term that is off stays in the log and in the graph, as 0: so every parameter keeps a gradient,
    as training on several GPUs needs.

    Args:
        given: Factor by name of the term, as the log shows it (``loss_kd_aux_1``), or by the name
            of a group without its number (``loss_kd_aux``), which a single name overrides. Of
            several networks the names are those without ``net0_``. A factor is a number or
            ``dict(weight=..., warmup_epochs=n)``, which grows linearly: it is ``weight * e / n`` in
            the e-th of the first n epochs. With ``ramp_epochs=n`` it is ``weight * exp(-5 (1 -
            e / n)^2)`` in the first n epochs, of which the first is e = 0.
        defaults: The factor of every term that there is.
        without_gradient: Terms from which nothing learns.

    Raises:
        ConfigError: A name is none of the terms, a factor no finite number from 0, or all are off.
    """

    def __init__(
        self,
        given: Mapping[str, float | Mapping] | None,
        defaults: Mapping[str, float | Mapping],
        without_gradient: Sequence[str] = (),
    ) -> None:
        known = ', '.join(dict.fromkeys([*defaults, *map(_group, defaults)]))
        ConfigError.check(
            isinstance(given, Mapping | None),
            'model.loss_weights',
            f'a dict of numbers by term ({known})',
            repr(given),
        )
        given = dict(given or {})
        for name in given:
            ConfigError.check(
                name in known.split(', '), f'model.loss_weights.{name}', f'one of {known}', name
            )
        self._weights: dict[str, tuple[float, int, int]] = {}
        for term, default in defaults.items():
            name = term if term in given else _group(term)
            self._weights[term] = _parse(name, given.get(name, default))
        learning = [term for term in defaults if term not in without_gradient]
        ConfigError.check(
            any(self._weights[term][0] for term in learning),
            'model.loss_weights',
            f'a weight above 0 for at least one of {", ".join(learning)}, to learn from',
            given,
        )

    def of(self, term: str, epoch: int) -> float:
        """The factor of one term in an epoch, from 0."""
        name = re.sub(r'^net\d+_', '', term)
        ConfigError.check(
            name in self._weights,
            'losses of the method',
            f'the terms of its default_weights ({", ".join(self._weights)})',
            term,
        )
        weight, warmup, ramp = self._weights[name]
        if ramp:
            return weight * math.exp(-5 * (1 - min(epoch, ramp) / ramp) ** 2)
        return weight * min(1.0, (epoch + 1) / warmup) if warmup else weight

    def __call__(self, losses: dict[str, Tensor], epoch: int = 0) -> dict[str, Tensor]:
        """Losses times their factors in an epoch, from 0."""
        factors = {term: self.of(term, epoch) for term in losses}
        return {t: loss if factors[t] == 1 else factors[t] * loss for t, loss in losses.items()}


def _group(term: str) -> str:
    return re.sub(r'_\d+$', '', term)


def _parse(name: str, value: object) -> tuple[float, int, int]:
    """Weight, and epochs in which it grows linearly or by a ramp."""
    weight, epochs = value, (0, 0)
    if isinstance(value, Mapping) and len({*value} - {'weight'}) < 2:
        weight = value.get('weight', 1.0)
        epochs = value.get('warmup_epochs', 0), value.get('ramp_epochs', 0)
        weight = weight if {*value} <= {'weight', 'warmup_epochs', 'ramp_epochs'} else None
    ConfigError.check(
        is_number(weight)
        and 0 <= weight < math.inf
        and all(type(number) is int and number >= 0 for number in epochs),
        f'model.loss_weights.{name}',
        'a number from 0 (off), dict(weight=..., warmup_epochs=...) or with ramp_epochs',
        repr(value),
    )
    return weight, *epochs
