"""From pixel values and optical densities to what a film shows: P-values (PS3.14, PS3.3 Sections C.11.4 and C.13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Tone", "grey_of"]

# Luminance to just-noticeable differences: PS3.14 Section 7.1, the polynomial of log10 L.
_JND = (71.498068, 94.593053, 41.912053, 9.8247004, 0.28175407, -1.1878455, -0.18014349, 0.14710899, -0.017046845)


@dataclass(frozen=True, slots=True)
class Tone:
    """How a film shows what is on it.

    Attributes:
        least, greatest: optical density of white and of black.
        illumination, reflection: luminance of the light box, and of the room's light that the film reflects, in cd/m².
        linear: whether values are linear in optical density (LIN OD), not P-values (IDENTITY).
        table: of a presentation LUT, from 0 to 1; None without.
        first: the input value of its first entry.
    """

    least: float = 0.2
    greatest: float = 3.2
    illumination: float = 2000.0
    reflection: float = 10.0
    linear: bool = False
    table: Any = None
    first: int = 0

    def of_density(self, density: Any) -> Any:
        """The P-value, from 0 to 1, of an optical density."""
        low, high, this = (
            _jnd(self.reflection + self.illumination * 10.0 ** -np.asarray(one, np.float64))
            for one in (self.greatest, self.least, density)
        )
        return np.clip((this - low) / (high - low), 0, 1)

    def of_values(self, values: Any, top: int) -> Any:
        """The P-values of pixels from 0, black, to ``top``."""
        if self.table is not None:
            places = np.clip(values.astype(np.int64) - self.first, 0, len(self.table) - 1)
            return self.table[places]
        part = values.astype(np.float64) / top
        return self.of_density(self.greatest - part * (self.greatest - self.least)) if self.linear else part


def _jnd(luminance: Any) -> Any:
    return np.polynomial.polynomial.polyval(np.log10(luminance), _JND)


def grey_of(density: str, tone: Tone) -> int:
    """The grey from 0 to 255 of a border: BLACK, WHITE, or hundredths of an optical density."""
    if density in ("BLACK", "WHITE"):
        return 255 * (density == "WHITE")
    return int(tone.of_density(int(density) / 100) * 255 + 0.5)
