"""Options of segmenting, each declared once: command line, Python, batches and evaluations contain them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from mrisr.config.base import Settings


def _table(value: Any) -> Any:
    """A label table as its text; text and mappings stay as they are."""
    return value if value is None or isinstance(value, Mapping) else str(value)


class Segmenting(Settings):
    """Choice of the segmenter: a model of ``mrisr train``, a MONAI bundle or an nnU-Net."""

    model: str | None = Field(
        None, description="Name of a zones model (see `mrisr models`) or its path."
    )
    bundle: Path | None = Field(
        None,
        description="Folder of a MONAI bundle that segments instead. A bundle is a program and is run: only "
        "give one that you trust.",
    )
    nnunet: Path | None = Field(
        None,
        description="Result folder of an nnU-Net v2 that segments instead. Its checkpoints can run code: only "
        "give one that you trust.",
    )
    table: Annotated[dict[int, str] | str | None, BeforeValidator(_table)] = Field(
        None,
        description="What the labels of --bundle or --nnunet stand for: 1=TZ,2=PZ, or a YAML or JSON file. "
        "Left out: as the model names them.",
    )
    margin: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Share of the width left out at each edge of the slices, for models trained on cropped "
        "ones (prostate_mri_anatomy: 0.2).",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")

    @model_validator(mode="after")
    def _one_model(self) -> Segmenting:
        if sum(source is not None for source in (self.model, self.bundle, self.nnunet)) > 1:
            raise ValueError("give --model, --bundle or --nnunet, only one of them")
        if self.table is not None and self.bundle is None and self.nnunet is None:
            raise ValueError("--table is for --bundle and --nnunet; our own labels are known")
        return self
