"""The tissue of the digital prostate: T2-weighted intensity as a function of position.

Points are arrays ``(3, n)``, mm in RAS with the gland near the origin. Tissue is drawn of soft ellipsoids and
band-limited random fields; it carries texture from organ size down to structures of 0.6 mm, which
interpolating thick slices cannot bring back. One seed is one patient: everything random is drawn once,
then applied. ``mrisr.data.phantom`` scans it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Vector: TypeAlias = tuple[float, float, float]


class Blob(NamedTuple):
    """A soft ellipsoid: mm, degrees; mirrored to the other side unless it lies on the midline."""

    centre: Vector
    radii: Vector
    value: float
    rim: float = 0.0  # thickness of dark cortical bone or fascia, mm
    tilt: tuple[float, float] = (0.0, 0.0)  # about R-L, then about S-I


class Modes(NamedTuple):
    """A band-limited random field of unit variance: ``sqrt(2 / M) sum cos(k . x + phase)``."""

    vectors: Floats  # (M, 3), rad/mm
    phases: Floats  # (M, 1), rad

    @staticmethod
    def draw(rng: np.random.Generator, count: int, shortest: float, longest: float) -> Modes:
        """``count`` plane waves; wavelengths in mm, log-uniform from shortest to longest."""
        height = (np.arange(count) + 0.5) / count  # directions spread evenly over a half sphere
        turn = np.pi * (3 - np.sqrt(5)) * np.arange(count) + rng.uniform(0, 2 * np.pi)
        ring = np.sqrt(1 - height**2)
        d = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
        wavelengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), (count, 1)))
        phases = rng.uniform(0, 2 * np.pi, (count, 1))
        return Modes((2 * np.pi / wavelengths * d).astype(np.float32), phases.astype(np.float32))

    def waves(self, p: Floats) -> Floats:
        """The single waves ``(M, n)`` at points ``(3, n)``."""
        angle = self.vectors @ p
        angle += self.phases
        return np.cos(angle, out=angle)

    def __call__(self, p: Floats) -> Floats:
        count = len(self.phases)
        return np.full(count, np.sqrt(2 / count), np.float32) @ self.waves(p)


def inside(distance: Floats, edge: float = 0.6) -> Floats:
    """Signed distance (mm, negative inside) to a weight from 0 to 1 over an edge of ``edge`` mm."""
    return np.asarray(np.clip(0.5 - distance * np.float32(1 / edge), 0, 1))


def paint(out: Floats, weight: Floats, value: Any) -> None:
    """Cover ``out`` with ``value`` (number or array) where ``weight`` is 1."""
    out += weight * (value - out)


class _Frame(NamedTuple):
    centre: Floats  # (3, 1), mm
    inverse: Floats  # (3, 3), mm to units of the radii along the tilted axes
    radii: Floats  # (3, 1), mm
    reach: Floats  # (3, 1), mm from the centre: a box around the blob


@lru_cache(maxsize=1024)
def _frame(blob: Blob) -> _Frame:
    (cx, cz), (sx, sz) = np.cos(np.radians(blob.tilt)), np.sin(np.radians(blob.tilt))
    turn = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, cx, -sx], [0, sx, cx]]
    radii = np.array(blob.radii, np.float32)[:, None]
    reach = np.full_like(radii, radii.max()) if any(blob.tilt) else radii
    centre = np.array(blob.centre, np.float32)[:, None]
    return _Frame(centre, (turn / blob.radii).T.astype(np.float32), radii, reach + 2)


def ellipsoid(p: Floats, blob: Blob) -> Floats:
    """Approximate signed distance in mm from points ``(3, n)`` to the blob's surface."""
    frame = _frame(blob)
    scaled = frame.inverse @ (p - frame.centre)
    k0 = np.sqrt(np.einsum("an,an->n", scaled, scaled))
    scaled /= frame.radii
    k1 = np.sqrt(np.einsum("an,an->n", scaled, scaled))
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-3)))


def nearby(p: Floats, blob: Blob) -> NDArray[np.intp]:
    """Indices of the points ``(3, n)`` in a box around the blob, with a margin of 2 mm."""
    centre, _, _, reach = _frame(blob)
    low, high = centre - reach, centre + reach
    if p.shape[1] == 0 or any(
        (p[a].min() > high[a, 0]) or (p[a].max() < low[a, 0]) for a in (2, 1, 0)
    ):
        return np.empty(0, np.intp)
    x, y, z = np.abs(p - centre)
    return np.flatnonzero((x < reach[0]) & (y < reach[1]) & (z < reach[2]))


def mirrored(p: Floats) -> Floats:
    """Points ``(3, n)`` with the left side folded onto the right one."""
    return np.stack([np.abs(p[0]), p[1], p[2]])


#: Brightest tissue, in the scanner's units.
RANGE = 1200.0
MUSCLE, FAT, MARROW, VOID = 80.0, 470.0, 330.0, 25.0

_BLOBS = (
    Blob((72, -84, -10), (66, 17, 80), MUSCLE, 0.6, (0, 18)),  # gluteus maximus
    Blob((50, -8, -2), (8, 37, 32), MUSCLE - 10, 0.6, (0, 13)),  # obturator internus
    Blob((70, -24, -4), (11, 26, 36), MARROW, 1.6, (0, 13)),  # ischium
    Blob((58, 36, 8), (17, 13, 27), MARROW - 20, 1.6, (0, 30)),  # anterior acetabulum
    Blob((98, 6, 8), (24, 24, 24), MARROW + 50, 1.5),  # femoral head
    Blob((22, 46, -19), (20, 9, 14), MARROW - 30, 1.6, (-35, -25)),  # pubic bone
    Blob((0, 46, -19), (2.5, 8, 13), 45.0),  # symphysis
    Blob((23, 73, 35), (23, 6, 70), MUSCLE, 0.8),  # rectus abdominis
    Blob((82, 48, 10), (17, 12, 70), MUSCLE, 0.8, (0, -30)),  # iliopsoas
    Blob((50, 34, -46), (28, 20, 22), MUSCLE, 0.8, (20, 0)),  # obturator externus
    Blob((66, 2, -82), (40, 44, 36), MUSCLE, 0.8),  # adductors
    Blob((54, 66, 20), (5, 5, 90), VOID, 0.7),  # femoral vein
    Blob((65, 69, 20), (4, 4, 90), VOID, 0.7),  # femoral artery
    Blob((0, 9, -47), (8, 12, 8), 640.0, 0.9),  # bulb of the penis
    Blob((22, 10, -54), (5, 17, 6), 600.0, 0.9, (0, 30)),  # crura
    Blob((0, -86, 36), (30, 9, 26), MARROW - 40, 1.5, (30, 0)),  # sacrum
    Blob((0, -72, 2), (8, 5, 12), MARROW - 40, 1.2, (-20, 0)),  # coccyx
    Blob((0, 15, 47), (37, 28, 28), 85.0),  # bladder wall
    Blob((0, 15, 47), (33.5, 24.5, 24.5), 900.0),  # urine
)
# Shapes without a value are painted by the functions below.
_PELVIS = Blob((0, -12, 10), (46, 60, 84), 0.0)
_GLAND = Blob((0, 0, 0), (30, 23, 25), 0.0)
_SHAPE = Blob((0, 0, 0), (26, 20, 24), 0.0)
_LOBE = Blob((8.5, 5, 5), (12, 12.5, 16), 0.0, 0.0, (0, -12))
_STROMA = Blob((0, 14, 1), (11, 6, 18), 0.0)
_VESICLE = Blob((15, -17, 27), (17, 6, 9), 0.0, 0.0, (20, 8))
_BODY = Blob((0, -6, 0), (175, 104, 600), 0.0)
_FIBROMUSCULAR = Blob((0, 16, 0), (9, 5, 19), 0.0)


@dataclass(frozen=True)
class Anatomy:
    """Everything random about one patient.

    Attributes:
        warp, shifts: smooth deformation; displacement in mm is ``shifts @ warp.waves(p)``.
        fine: texture with wavelengths of 1.2 to 5 mm.
        ducts, stroma: two textures of 6 to 18 mm; their zero surfaces make septa, and the lines
            where both vanish make vessels.
        nodules: spheres in the transition zone.
        side: -1 or 1, the side of the lesion.
    """

    warp: Modes
    shifts: Floats
    fine: Modes
    ducts: Modes
    stroma: Modes
    nodules: tuple[Blob, ...]
    side: int


@lru_cache(maxsize=8)
def anatomy(seed: int) -> Anatomy:
    """Draw one patient."""
    rng = np.random.default_rng(seed)
    nodules = []
    for radius in np.geomspace(6.5, 1.3, 48):  # large ones first, small ones on top
        direction = rng.standard_normal(3)
        where = direction / np.linalg.norm(direction) * 0.9 * rng.uniform() ** (1 / 3)
        x, y, z = [8, 5, 5] + where * [11, 11, 14]
        value = rng.uniform(290, 480) if rng.uniform() < 0.45 else rng.uniform(105, 190)
        side = rng.choice([-1, 1])
        nodules.append(Blob((float(side * x), y, z), (radius, radius, radius), value))
    return Anatomy(
        warp=Modes.draw(rng, 6, 35.0, 80.0),
        shifts=rng.uniform(-1.4, 1.4, (3, 6)).astype(np.float32),
        fine=Modes.draw(rng, 64, 1.2, 5.0),
        ducts=Modes.draw(rng, 20, 6.0, 18.0),
        stroma=Modes.draw(rng, 20, 6.0, 18.0),
        nodules=tuple(nodules),
        side=int(rng.choice([-1, 1])),
    )


def warped(p: Floats, a: Anatomy) -> Floats:
    """World points ``(3, n)`` of this patient in the coordinates that the anatomy is drawn in."""
    return np.ascontiguousarray(p) + a.shifts @ a.warp.waves(p)


def gland_distances(p: Floats, a: Anatomy) -> tuple[Floats, Floats, Floats]:
    """Signed distances (mm) to the whole gland, the transition zone and the lesion."""
    x, y, z = p
    wide = 1 + np.float32(0.2 / 22) * z  # towards the base; the apex is narrow
    dent = 3 * np.exp(-((x / 8) ** 2)) * (y < 0)
    gland = ellipsoid(np.stack([x / wide, (y - dent) / wide, z]), _SHAPE)
    lobes = ellipsoid(mirrored(p), _LOBE)
    front = ellipsoid(p, _STROMA)
    tilt, centre = (0.0, 38.0 * a.side), (15.0 * a.side, -11.0, -3.0)
    lesion = ellipsoid(p, Blob(centre, (7.5, 3.3, 6), 0, 0, tilt))
    return gland, np.maximum(np.minimum(lobes, front), gland + 1.2), np.maximum(lesion, gland)


def _rectum(out: Floats, p: Floats, fine: Floats, stroma: Floats) -> None:
    """Rectum and anal canal: muscular wall, bright mucosa, gas above stool."""
    x, y, z = p
    low = np.clip((-24 - z) / 14, 0, 1)  # 1 in the anal canal
    middle = -35.5 - 0.006 * np.clip(z, 0, None) ** 2 - 0.35 * np.clip(-24 - z, 0, None)
    width = 17 - 6 * low + 2 * np.sin(z / 9)
    radius = np.hypot((x - 3 * np.sin(z / 15)) / width, (y - middle) / (width - 3))
    d = np.maximum((radius - 1) * (width - 2), -z - 62)
    wall = 3.6 + 7 * low
    paint(out, inside(d), 95 + 18 * fine)
    paint(out, inside(np.abs(d + wall) - 0.6), 330 + 40 * fine)
    stool = np.where(stroma > 0.8, 60, 210 + 50 * stroma + 35 * fine)
    paint(out, inside(d + wall + 0.6), np.where(y - middle > 2 + stroma, VOID, stool))


def _pelvic_floor(out: Floats, p: Floats, fine: Floats) -> None:
    """Levator ani: a thin funnel around gland and rectum, open in front."""
    x, y, z = p
    half = 14 + 16 * np.clip((z + 48) / 48, 0, 1)
    shell = np.abs(np.hypot(x / half, (y + 16) / (half * 1.3)) - 1) * half - 1.5
    ends = np.maximum(np.maximum(-z - 52, z - 14), y - 14)
    paint(out, inside(np.maximum(shell, ends)), MUSCLE + 12 * fine)


def _vessels(out: Floats, p: Floats, ducts: Floats, stroma: Floats) -> None:
    """Vessels in the fat, dense in the neurovascular bundles and in front of the gland."""
    x, y, z = p
    bundle = np.exp(-(((np.abs(x) - 22) / 5) ** 2) - ((y + 15) / 6) ** 2)
    plexus = np.exp(-((x / 16) ** 2) - ((y - 22) / 6) ** 2 - ((z + 4) / 22) ** 2)
    size = np.hypot(ducts, stroma) - (0.26 + 0.45 * bundle + 0.5 * plexus)
    flow = np.where(np.sin(0.21 * x - 0.17 * y + 0.05 * z) > 0, 40, 690)
    paint(out, inside(size, 0.4), flow)


def _vesicles(out: Floats, p: Floats, fine: Floats, ducts: Floats) -> None:
    """Seminal vesicles: bright convoluted lumen (a gyroid) between dark walls."""
    d = ellipsoid(mirrored(p), _VESICLE)
    u = 0.62 * p + 0.9 * ducts
    coil = np.sin(u[0]) * np.cos(u[1]) + np.sin(u[1]) * np.cos(u[2]) + np.sin(u[2]) * np.cos(u[0])
    lumen = np.clip(3.5 * np.abs(coil) - 0.5, 0, 1) * inside(d + 1, 1.0)
    paint(out, inside(d), 130 + 490 * lumen + 25 * fine)


def _nodules(out: Floats, p: Floats, a: Anatomy, fine: Floats, ducts: Floats) -> None:
    """Nodules of hyperplasia with dark rims: glandular ones bright, stromal ones dark."""
    for nodule in a.nodules:
        near = nearby(p, nodule)
        if len(near) == 0:
            continue
        d = ellipsoid(p.take(near, axis=1), nodule) + 0.5 * ducts[near]
        part = out[near]
        paint(part, inside(d), 75)
        paint(part, inside(d + 0.8), nodule.value * (1 + 0.28 * fine[near]))
        out[near] = part


def _prostate(out: Floats, p: Floats, a: Anatomy, fine: Floats, ducts: Floats) -> None:
    """Capsule, zones, nodules, lesion."""
    x, y, z = p
    gland, tz, lesion = gland_distances(p, a)
    stroma = a.stroma(p)
    septa = 1 - 0.45 * np.clip(1.4 - np.abs(ducts) / 0.13, 0, 1)
    inner = (510 + 60 * stroma + 60 * fine) * septa  # peripheral zone
    central = np.hypot(x / 9, (y + 8) / 5) + np.abs(z - 16) / 14 - 1.2
    paint(inner, inside(5 * central, 3.0), 190 + 30 * fine)
    transition = 200 + 40 * stroma + 50 * fine
    _nodules(transition, p, a, fine, ducts)
    paint(transition, inside(ellipsoid(p, _FIBROMUSCULAR), 2.0), 80 + 15 * fine)
    paint(inner, inside(tz), transition)
    paint(inner, inside(np.abs(tz) - 0.3), 100)
    paint(inner, inside(lesion, 1.6), 140 + 22 * fine)
    paint(out, inside(gland), 110)
    paint(out, inside(gland + 0.8), inner)


def _urethra(out: Floats, p: Floats, fine: Floats) -> None:
    """Urethra from the bladder neck through the gland to the bulb: mucosa in a muscular wall."""
    x, y, z = p
    beyond = np.clip(np.abs(z + 12) / 34 - 1, 0, None)
    tube = np.hypot(x, y - 3 - 0.15 * np.abs(z + 3)) + 60 * beyond
    paint(out, inside(tube - 3.4), 105 + 10 * fine)
    paint(out, inside(tube - 1.3), 370 + 30 * fine)


def _pelvis(out: Floats, p: Floats, a: Anatomy, fine: Floats, ducts: Floats) -> None:
    """Everything drawn one by one around the gland, over the ``out`` of the blobs."""
    stroma = a.stroma(p)
    vessels = out.copy()
    _vessels(vessels, p, ducts, stroma)
    fat = (out > FAT - 130) & (ellipsoid(p, _BLOBS[-1]) > 3)
    out[fat] = vessels[fat]
    _pelvic_floor(out, p, fine)
    _rectum(out, p, fine, stroma)
    _vesicles(out, p, fine, ducts)
    near = nearby(p, _GLAND)
    if len(near):
        part = out[near]
        _prostate(part, p.take(near, axis=1), a, fine[near], ducts[near])
        out[near] = part
    _urethra(out, p, fine)


def _blobs(out: Floats, p: Floats, fine: Floats, ducts: Floats) -> None:
    """Muscles with streaks of fat, bones, large vessels, bladder."""
    q = mirrored(p)
    streaks = 130 * np.clip(1.4 - np.abs(ducts) / 0.09, 0, 1)
    for blob in _BLOBS:
        near = nearby(q, blob)
        if len(near):
            d, part = ellipsoid(q.take(near, axis=1), blob), out[near]
            if blob.rim:
                paint(part, inside(d), 45)
            grain = blob.value + 18 * fine[near]
            paint(part, inside(d + blob.rim), grain + streaks[near] * (blob.value < 100))
            out[near] = part


def intensities(p: Floats, a: Anatomy) -> Floats:
    """Intensities at world points ``(3, n)``, from 0 to ``RANGE``, shape ``(n,)``."""
    p = warped(p, a)
    fine, ducts = a.fine(p), a.ducts(p)
    out = FAT + 20 * fine + 25 * ducts - 80 * np.clip(1.3 - np.abs(ducts) / 0.12, 0, 1)
    _blobs(out, p, fine, ducts)
    near = nearby(p, _PELVIS)
    if len(near):
        part = out[near]
        _pelvis(part, p.take(near, axis=1), a, fine[near], ducts[near])
        out[near] = part
    out *= 1 + 0.12 * np.cos(p[0] / 60) * np.cos(p[1] / 70)  # sensitivity of the coil
    depth = -ellipsoid(p, _BODY)
    paint(out, inside(depth - 1.8), 160)  # skin
    paint(out, inside(depth), 8)
    return np.clip(out, 0, RANGE)
