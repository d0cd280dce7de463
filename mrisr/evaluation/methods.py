"""The methods of an evaluation, ready to run: models are loaded, and held to the patients they may see."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Kind, Sampling
from mrisr.core.volume import Volume
from mrisr.evaluation.settings import (
    ComparisonSettings,
    EvaluationSettings,
    LesionsSettings,
    MethodEntry,
)
from mrisr.io.checks import readable
from mrisr.io.files import file_sha256
from mrisr.models.ancestry import training_cases
from mrisr.models.card import ModelCard, model_for
from mrisr.models.store import Model, load_model
from mrisr.networks import resolve_device, resolve_precision
from mrisr.physics.measurement import Measurement, measure_through_plane
from mrisr.planes.joint import Joint, join
from mrisr.restore import Restored, effective, resolved, restore

Report = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Method:
    """A row of the comparison.

    Attributes:
        entry: as the file states it, its model filled in; the options that have an effect have a value.
        model: None for volumes that were made elsewhere and for images that are not restored.
    """

    entry: MethodEntry
    model: Model | None = None

    @property
    def name(self) -> str:
        """Name in the tables."""
        return self.entry.name

    def restore(self, measurement: Measurement) -> Restored:
        """The product's restoration of a measurement. Raises UsageError for volumes made elsewhere."""
        if self.model is None:
            raise UsageError(f"{self.name}: volumes cannot be compared with degraded slices")
        return restore(measurement, self.model, self.entry)

    def join(
        self, measurement: Measurement, further: Mapping[str, Volume], kind: Kind, spacing: float
    ) -> Joint:
        """The product's isotropic volume of a measured axial stack and the further planes that the method
        names, ``further`` by plane.

        Args:
            kind: of the degradation along the further stacks' slices.
            spacing: of the joint volume, mm.

        Raises:
            InputError: a plane is missing.
        """
        missing = [plane for plane in self.entry.planes if plane not in further]
        if missing or self.model is None:
            expected = f"a stack that is axial and one that is {' and one that is '.join(missing)}"
            raise InputError(measurement.placed.measured.name, expected=expected, found="none")
        volumes = [further[plane] for plane in self.entry.planes]
        factors = [float(v.spacing[v.slice_axis]) / spacing for v in volumes]
        others = [
            measure_through_plane(v, factor, kind).with_estimated_noise()
            for v, factor in zip(volumes, factors, strict=True)
        ]
        return join([measurement, *others], self.model, self.entry, spacing)

    @property
    def evaluations(self) -> int:
        """Evaluations of the network per image; 0 for interpolation and without a model."""
        return 0 if self.model is None else self.model.restorer.evaluations(self.entry)

    @property
    def device(self) -> torch.device:
        """The device that the method is computed on."""
        return resolve_device(self.entry.device)

    @property
    def precision(self) -> str:
        """Precision of the network's evaluations: ``float32`` or ``bfloat16``."""
        return str(resolve_precision(self.entry.precision, self.device)).removeprefix("torch.")

    @property
    def is_interpolation(self) -> bool:
        """True for an interpolation, which has no weights."""
        return self.model is not None and self.model.card.method == "interpolation"

    @cached_property
    def is_default(self) -> bool:
        """True for the model as it restores when nothing else is asked."""
        if self.model is None or self.entry.planes:
            return False
        own = resolved(Sampling(), self.model)
        return (self.entry.noise, effective(self.entry)) == (own.noise, effective(own))

    def volume_path(self, case: str) -> Path | None:
        """Path of a patient's volume made elsewhere."""
        return None if self.entry.volumes is None else Path(self.entry.volumes.format(case=case))

    def deciding(self, case: str) -> dict[str, Any]:
        """Everything of the method that a score of this patient depends on. Raises InputError for a
        volume that cannot be read."""
        path = self.volume_path(case)
        if path is not None:
            with readable(path, "a volume made elsewhere"):
                return {"volume": file_sha256(path)}
        if self.model is None:
            return {}
        card = self.model.card
        names = {
            "method",
            "network",
            "diffusion",
            "inversion",
            "condition",
            "kinds",
            "noise",
            "sha256",
        }
        return {
            "model": card.model_dump(mode="json", include=names),
            "sampling": effective(self.entry) | {"noise": self.entry.noise},
            "device": self.device.type,
            "precision": self.precision,
        } | ({"planes": self.entry.planes} if self.entry.planes else {})


def load_methods(
    settings: ComparisonSettings,
    model: str | None = None,
    device: str = "auto",
    skip_missing: bool = False,
    report: Report = lambda line: None,
) -> list[Method]:
    """The methods of a file with their models.

    Args:
        model: takes the place of the file's model, for the methods that name none.
        device: of the methods that name none.
        skip_missing: leave out methods whose model is missing and say so, instead of refusing.

    Raises:
        UsageError: models are missing, all of them named in one line; or one is for another job, or
            cannot be sampled as it is asked to.
    """
    found: list[Method] = []
    missing: list[str] = []
    load = cache(load_model)
    for entry in (_completed(e, settings, model, device) for e in settings.compared):
        if entry.model is None:
            found.append(Method(entry))
            continue
        try:
            loaded = load(entry.model)
        except UsageError as error:
            missing.append(f"{entry.name} ({str(error).split(';')[0]})")
            continue
        job = loaded.card.job
        if job not in (None, settings.job):
            raise UsageError(f"{entry.name}: expected a model for {settings.job}, found {job}")
        try:
            found.append(Method(resolved(entry, loaded), loaded))
        except UsageError as error:
            raise UsageError(f"{entry.name}: {error}") from error
    if missing and not skip_missing:
        named = "; ".join(missing)
        raise UsageError(f"models are missing: {named} (--skip-missing leaves them out)")
    for text in missing:
        report(f"left out: {text}")
    if not found:
        raise UsageError("no method is left to score")
    return found


def _completed(
    entry: MethodEntry, settings: ComparisonSettings, model: str | None, device: str
) -> MethodEntry:
    """An entry with its device and, unless its volumes were made elsewhere, its model. Raises UsageError."""
    if entry.device == "auto":
        entry = replace(entry, device=device)
    if entry.volumes is not None:
        return entry
    name = entry.model or model or settings.model
    if entry.method is not None:
        name = model_for(settings.job, entry.method)
    if name is None:
        raise UsageError(f"{entry.name}: name a model in the file, or give --model")
    return replace(entry, model=name, method=None)


def held_out_cases(
    settings: EvaluationSettings | LesionsSettings,
    methods: Iterable[Method],
    report: Report = lambda line: None,
) -> list[str]:
    """The patients to score: the file's, or those that all models held out.

    Raises:
        UsageError: a model, or one that it began with, was trained on a patient to score; or no patient
            was held out by all.
    """
    models = trained_models(methods)
    held = [m.card.training.validation_cases for m in models]
    names = settings.cases or tuple(n for n in (held or [()])[0] if all(n in h for h in held))
    if not names:
        raise UsageError("no patient was held out by all models; name patients in the file (cases)")
    for model, cases in training_cases(cards_of(models), report).items():
        both = sorted(set(names) & set(cases))
        if both and settings.include_trained:
            report(f"note: {model} was trained on {', '.join(both)}, which flatters it")
        elif both:
            raise UsageError(f"{model} was trained on {', '.join(both)}; score other patients")
    return list(names)


def trained_models(methods: Iterable[Method]) -> list[Model]:
    """The models of the methods that were trained, each once."""
    models = {m.model.card.name: m.model for m in methods if m.model is not None}
    return [m for m in models.values() if m.card.training.cases]


def cards_of(models: Iterable[Model]) -> list[tuple[ModelCard, Path]]:
    """The cards of models, and their files."""
    return [(m.card, m.path) for m in models]
