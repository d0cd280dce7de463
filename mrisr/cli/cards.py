"""Models and their cards as plain text and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from mrisr.cli.tables import plain_table, rendered, table_text
from mrisr.core.labels import ZONES
from mrisr.models.card import Card, ModelCard, ZonesCard, gains

if TYPE_CHECKING:
    from mrisr.evaluation.statistics import Table

#: Heading of what tells how much of a model's results to believe.
TRUST = "How far to trust it"
#: Keys of a card's figures and the titles of their tables.
_FURTHER = {
    "with_noise": "With noise",
    "measured": "Real scans as they were measured",
    "reference": "Against another scan of the patient",
}
#: Licences of weights by the names that a hub has for them.
_HUB_LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")


def listing(cards: Sequence[Card]) -> str:
    """One line per model."""
    columns = ("model", "method", "factors", "steps", "gain over interpolation, or Dice", "sha256")
    rows = ((card.name, *_in_brief(card), card.sha256[:12]) for card in cards)
    return table_text(columns, rows) if cards else "no models"


def _in_brief(card: Card) -> tuple[str, str, str, str]:
    """Method, factors, steps, and the figures that the card states: Dice or the mean gain for each factor."""
    if not isinstance(card, ModelCard):
        dice = dice_of(card) if isinstance(card, ZonesCard) else {}
        found = ", ".join(f"{zone} {value:.3f}" for zone, value in dice.items())
        return "zones", "-", "-", found or "not scored"
    mean = gains(card.figures) if card.figures else {}
    found = ", ".join(f"x{f:g} {gain:+.2f} dB" for f, gain in mean.items())
    if found and "Rician" in card.figures.get("protocol", ""):  # noise lowers every gain
        found += " (noisy)"
    factors = " to ".join(dict.fromkeys(f"x{f:g}" for f in card.factors))
    return card.method, factors, str(card.default_steps), found or "not scored"


def card_facts(card: Card) -> dict[str, str]:
    """Facts of a card, apart from its figures: title -> text."""
    t = card.training
    return _own_facts(card) | {
        "trained on": ", ".join(t.cases),
        "held out": ", ".join(t.validation_cases),
        "training": f"{t.iterations} steps of {t.batch} crops of {t.crop} pixels, "
        f"{t.seconds / 60:.0f} min on {t.hardware}, {t.precision}, seed {t.seed}",
        "started from": t.initialized_from or "random weights",
        "software": t.software,
        "weights": f"{card.weights_licence}, SHA-256 {card.sha256}",
        "data licences": "; ".join(card.data_licences) or "not stated",
        "intended use": card.intended_use,
        "limitations": "; ".join(card.limitations) or "not stated",
    }


def _own_facts(card: Card) -> dict[str, str]:
    """Facts that models of one kind have and others have not."""
    if isinstance(card, ZonesCard):
        (edge, slices), (near, far) = card.window, card.slice_spacing
        return {
            "job": "segments peripheral and transition zone on axial stacks",
            "looks at": f"{edge} x {edge} pixels of {card.pixel_mm:g} mm, {slices} slices",
            "slices": f"{near:g} to {far:g} mm apart; thinner ones are dealt out into stacks",
            "network": ", ".join(f"{k} {v}" for k, v in card.network.model_dump().items()),
        }
    if not isinstance(card, ModelCard):
        return {}
    d = card.diffusion
    facts = {
        "job": card.job or "both",
        "method": card.method,
        "factors": f"x{card.factors[0]:g} to x{card.factors[1]:g}",
        "default": f"{card.default_steps} step(s), eta {card.default_eta:g}",
        "network": ", ".join(f"{k} {v}" for k, v in card.network.model_dump().items()),
    }
    if card.method == "diffusion":
        start = "pure noise" if d.from_noise else f"g = {d.start:g}"
        facts["diffusion"] = f"{d.path} path from {start}, predicts {d.prediction}"
    return facts


def figures_tables(card: Card) -> list[Table]:
    """The tables of the figures that an evaluation put into a card: of models that restore, those without
    noise against the truth."""
    if not card.figures:
        return []
    if isinstance(card, ZonesCard):
        from mrisr.evaluation.zones.experiment import zones_tables

        return zones_tables(card.figures)
    from mrisr.evaluation.report import means_tables, patients_table

    return [patients_table(card.figures), *means_tables(card.figures)]


def trust_tables(card: Card) -> list[tuple[str, list[Table]]]:
    """What tells how far to trust a model that restores: the command that measured it, and its tables."""
    if not isinstance(card, ModelCard):
        return []
    from mrisr.evaluation.lesions.experiment import lesions_tables
    from mrisr.evaluation.report import means_tables, patients_table

    found = []
    for key, title in _FURTHER.items():
        if figures := card.figures.get(key):
            tables = [patients_table(figures)] if figures["patients"] else []
            tables += means_tables(figures)
            known = sorted(set(figures.get("cases", ())) & set(card.training.cases))
            after = f" (it was trained on {', '.join(known)})" if known else ""
            tables = [replace(t, title=f"{title}, {t.title}{after}") for t in tables]
            found.append((figures["command"], tables))
    if lesions := card.figures.get("lesions"):
        found.append((lesions["command"], lesions_tables(card.figures)))
    if card.uncertainty is not None and (figures := card.uncertainty.figures):
        found.append((figures["command"], [coverage_table(figures)]))
    return found


def coverage_table(figures: Mapping[str, Any]) -> Table:
    """What a model's standard deviations cover, mean over patients, as shares of the intensity range."""
    from mrisr.evaluation.statistics import Table

    shown = {
        "50%": ".3f",
        "80%": ".3f",
        "95%": ".3f",
        "mean sd": ".4f",
        "rms error": ".4f",
        "r": ".2f",
    }
    cells = [
        [f"x{row['factor']:g}", f"{100 * row['noise']:g}%", row["region"], row["way"]]
        + [f"{row[name]:{form}}" for name, form in shown.items()]
        for row in figures["rows"]
    ]
    return Table(
        "coverage of the standard deviation", ["factor", "noise", "region", "from", *shown], cells
    )


def card_text(card: Card) -> str:
    """A model card for reading."""
    facts = {"model": card.name, "description": card.description, **card_facts(card)}
    parts: list[object] = [plain_table(("", ""), facts.items())]
    measured = [(card.figures["command"], figures_tables(card))] if card.figures else []
    for heading, found in (("held-out figures", measured), (TRUST, trust_tables(card))):
        for i, (command, tables) in enumerate(found):
            parts += ["", *([heading] if i == 0 else []), f"by: {command}"]
            for table in tables:
                parts += ["", table.title, plain_table(table.columns, table.cells)]
    return rendered(*parts)


def card_sections(card: Card) -> list[str]:
    """One card: what it is, its figures per patient, its ways to sample at each factor."""
    facts = {
        key: value.replace("|", " ").replace("*", r"\*") for key, value in card_facts(card).items()
    }
    rows = [f"| {key} | {value} |" for key, value in facts.items()]
    parts = [f"## {card.name}\n", card.description, "\n| | |\n|---|---|", *rows, ""]
    return [*parts, *figures_sections(card), ""]


def figures_sections(card: Card) -> list[str]:
    """The tables of the figures that ``mrisr evaluate --card`` put into the card, and how far to trust it."""
    figures = card.figures
    if not figures:
        return ["Not scored yet."]
    parts = [_command(figures["command"])]
    parts += [f"{figures['protocol']}.\n"] if "protocol" in figures else []
    parts += [table.as_markdown() for table in figures_tables(card)]
    trusted = trust_tables(card)
    if trusted:
        parts.append(f"### {TRUST}\n")
        parts += [f"- {limitation}" for limitation in card.limitations] + [""]
    for command, tables in trusted:
        parts += [_command(command), *(table.as_markdown() for table in tables)]
    return parts


def _command(line: str) -> str:
    return f"```console\n$ {line}\n```\n"


def card_markdown(card: Card) -> str:
    """A model card as the ``README.md`` of a repository on a hub: metadata in YAML, then the card."""
    licence = card.weights_licence.split(" ")[0].lower()
    named = (text.split(" (")[0] for text in card.data_licences)
    zones = isinstance(card, ZonesCard)
    metadata: dict[str, object] = {
        "license": licence if licence in _HUB_LICENCES else "other",
        **({} if licence in _HUB_LICENCES else {"license_name": card.weights_licence}),
        "library_name": "mrisr",
        "pipeline_tag": "image-segmentation" if zones else "image-to-image",
        "tags": ["mri", "prostate", "medical", "segmentation" if zones else "super-resolution"],
        "datasets": [name for name in named if ":" not in name],
    }
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    use = f"With card and weights in one folder: `--model FOLDER/{card.name}.json`.\n"
    return "\n".join([f"---\n{head}---\n", *card_sections(card), use]).rstrip()


def dice_of(card: Card) -> dict[str, float]:
    """Zone -> mean Dice over the card's held-out patients; empty where it was not scored."""
    scores = card.figures.get("held_out", {}).values()
    found = {z: [s[z]["dice"] for s in scores if s[z]["dice"] is not None] for z in ZONES}
    return {zone: float(np.mean(values)) for zone, values in found.items() if values}
