"""Patients that a model has seen: its own and those of the models that its weights began with."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from mrisr.core.errors import InputError, UsageError
from mrisr.models.card import Card, card_path, read_any_card


def training_cases(
    models: Iterable[tuple[Card, Path]], report: Callable[[str], None] = lambda line: None
) -> dict[str, tuple[str, ...]]:
    """The patients that models, and those that their weights began with, were trained on, by a name such as
    ``b began as a, which``.

    A model is its card and the card's file: models trained side by side lie in neighbouring folders. An
    earlier model that is not here is reported.
    """
    found = {}
    for card, path in models:
        own, name = card.name, card.training.initialized_from
        found[own] = card.training.cases
        seen = {own}
        while name is not None and name not in seen:
            seen.add(name)
            earlier = _card_of(name, path.parent.parent / name)
            if earlier is None:
                report(f"note: {own} began as {name}, which is not here to be checked")
                break
            found[f"{own} began as {earlier.name}, which"] = earlier.training.cases
            name = earlier.training.initialized_from
    return found


def _card_of(*places: str | Path) -> Card | None:
    for place in places:
        with suppress(UsageError, InputError):
            return read_any_card(card_path(place, weights=False))
    return None
