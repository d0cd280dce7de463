"""The table that gives a foreign model's labels their meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrisr.core.errors import InputError, UsageError
from mrisr.zones.labels import PZ, TZ, LabelTable


@pytest.mark.parametrize(
    ("text", "meanings"),
    [
        ("1=TZ,2=PZ", {0: 0, 1: TZ, 2: PZ}),
        (" 7 = Peripheral zone , 3=central gland,9=tz", {0: 0, 3: TZ, 7: PZ, 9: TZ}),
        ("0=background,1=pz,2=transitional_zone,3=none", {0: 0, 1: PZ, 2: TZ, 3: 0}),
    ],
)
def test_tables_in_words(text: str, meanings: dict[int, int]) -> None:
    table = LabelTable.parse(text)
    assert table.meanings == meanings
    assert LabelTable.parse(str(table)) == table


@pytest.mark.parametrize(
    "text",
    ["", "TZ", "1=TZ", "1=TZ,2=PZ,2=TZ", "1=TZ,2=prostate", "x=TZ,2=PZ", "-1=TZ,2=PZ", "0=TZ,2=PZ"],
)
def test_tables_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="label table: expected"):
        LabelTable.parse(text)


@pytest.mark.parametrize("text", ["- TZ\n- PZ\n", "1: [", "\xff", "TZ"])
def test_files_that_are_no_tables(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_bytes(text.encode("latin-1"))
    for given in (LabelTable.read, lambda p: LabelTable.given(str(p))):
        with pytest.raises(InputError, match=r"table\.yaml: expected a .*") as no:
            given(path)
        assert "\n" not in str(no.value)


def test_unknown_labels_are_named() -> None:
    table = LabelTable.parse("1=TZ,2=PZ")
    values = np.array([[0.0, 1.0], [2.0, 1.0]])
    np.testing.assert_array_equal(table.apply(values, "m"), [[0, TZ], [PZ, TZ]])
    with pytest.raises(
        InputError, match=r"^m: expected labels of the table 1=TZ,2=PZ, found 1\.5, 3$"
    ):
        table.apply(np.array([0, 1.5, 3.0]), "m")
    with pytest.raises(InputError, match="found 3, 4, 5, 6, 7 and others"):
        table.apply(np.arange(12), "m")
    with pytest.raises(InputError, match="found nan"):
        table.apply(np.array([0.0, np.nan]), "m")


def test_names_that_models_give() -> None:
    zoo = {0: "background", 1: "central gland", 2: "peripheral zone"}
    assert LabelTable.recognised(zoo, Path("m")).meanings == {0: 0, 1: TZ, 2: PZ}
    for names in ({}, {1: "TZ"}, {**zoo, 3: "urethra"}):
        with pytest.raises(InputError, match="--table"):
            LabelTable.recognised(names, Path("m"))
