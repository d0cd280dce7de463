"""The tables of the experiment, ready to print in any form."""

from __future__ import annotations

from collections.abc import Sequence

from mrisr.evaluation.statistics import Mean
from mrisr.evaluation.tabulate import Table, best_of, cell
from mrisr.evaluation.zones.outcome import ZonesEvaluation
from mrisr.evaluation.zones.rows import ZonesRow
from mrisr.evaluation.zones.scored import STACK_METRICS, ZONE_METRICS
from mrisr.evaluation.zones.settings import Scale
from mrisr.zones.labels import ZONES


def tables(evaluation: ZonesEvaluation) -> list[Table]:
    """Tables of each scale, patients that no model has seen first; then every patient by itself."""
    found = []
    for seen in (False, True):
        for scale in evaluation.scales:
            rows = evaluation.at(scale, seen)
            if rows:
                found += [scores_table(rows, scale), agreement_table(rows, scale)]
    return [t for t in found if t is not None] + [patients_table(evaluation)]


def scores_table(rows: Sequence[ZonesRow], scale: Scale) -> Table:
    """Every method against the labels, and the image that was not restored."""
    stack = [n for n in STACK_METRICS if any(n in r.means for r in rows)]
    names = [f"{zone}.{m}" for zone in ZONES for m in ZONE_METRICS]
    titles = [f"{zone} {m.title}" for zone in ZONES for m in ZONE_METRICS.values()]
    titles += [f"empty {', '.join(ZONES)}", *(STACK_METRICS[n].title for n in stack)]
    cells = []
    for row in rows:
        empty = f"{', '.join(str(n) for n in row.empty.values())} of {row.patients}"
        scores = [_cell(row, n) for n in names]
        cells.append([row.method, *scores, empty, *(_cell(row, n) for n in stack)])
    columns = dict(enumerate(names, 1))
    columns |= dict(enumerate(stack, len(names) + 2))
    title = f"{scale}: against the labels, {_patients(rows)}"
    return Table(title, ["method", *titles], cells, _marked(rows, columns))


def agreement_table(rows: Sequence[ZonesRow], scale: Scale) -> Table | None:
    """Every method against what the segmenter says of the image that was not restored; none where there
    is no method."""
    names = [f"{zone}.agreement.{m}" for zone in ZONES for m in ZONE_METRICS]
    restored = [r for r in rows if any(n in r.means for n in names)]
    if not restored:
        return None
    titles = [f"{zone} {m.title}" for zone in ZONES for m in ZONE_METRICS.values()]
    cells = [[row.method, *(_cell(row, n) for n in names)] for row in restored]
    title = f"{scale}: against the segmentation of the {scale.original}, {_patients(rows)}"
    marked = _marked(restored, dict(enumerate(names, 1)))
    return Table(title, ["method", *titles], cells, marked)


def patients_table(evaluation: ZonesEvaluation) -> Table:
    """Dice and volume bias of every patient."""
    cells = []
    for r in evaluation.results:
        line = [str(r.scale), r.case, "yes" if r.seen else "no", r.method]
        for zone in ZONES:
            score = r.scored.labels[zone]
            dice = f"{score.dice:.3f}" if score.dice == score.dice else "empty"
            line += [dice, f"{score.volume_bias_ml:+.1f} of {score.reference_ml:.1f}"]
        cells.append(line)
    figures = [f"{zone} {what}" for zone in ZONES for what in ("Dice", "bias, labels ml")]
    columns = ["factor", "patient", "trained on", "method", *figures]
    return Table("Patient by patient", columns, cells, [set() for _ in cells])


def _patients(rows: Sequence[ZonesRow]) -> str:
    n = max(row.patients for row in rows)
    text = f"mean over {n} patient{'s' * (n != 1)}"
    return f"{text} that models were trained on" if rows[0].seen else text


def _cell(row: ZonesRow, name: str) -> str:
    metric = (ZONE_METRICS | STACK_METRICS)[name.rsplit(".", maxsplit=1)[-1]]
    return cell(row.means.get(name), metric.format, interval=name != "cpu_seconds")


def _marked(rows: Sequence[ZonesRow], columns: dict[int, str]) -> list[set[int]]:
    """Which cells of each row are the best of their column; the original image does not take part."""
    marked = [set[int]() for _ in rows]
    for column, name in columns.items():
        metric = (ZONE_METRICS | STACK_METRICS)[name.rsplit(".", maxsplit=1)[-1]]
        means: list[Mean | None] = [
            None if row.method == row.scale.original else row.means.get(name) for row in rows
        ]
        for index in best_of(means, metric.better):
            marked[index].add(column)
    return marked
