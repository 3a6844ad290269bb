"""All measures of one output against its reference, by name, and the unit each is given in."""

from __future__ import annotations

from dataclasses import asdict

from lily.evaluation.levels import bias_db, lsd_in_band, patchiness
from lily.evaluation.metrics import distances
from lily.evaluation.modulation import modulation_db
from lily.evaluation.spectra import Spectra
from lily.evaluation.strokes import envelope_correlation, rise_db
from lily.evaluation.tonality import match, peakiness, tonal_frames, tonal_persistence

# What the tables show, in their order, and what the reference itself scores.
SHOWN = {
    "lsd_hf": "0",
    "lsd_in_band": "0",
    "bias_db": "0",
    "rise_db": "its own",
    "envelope_correlation": "1",
    "persistence": "its own",
    "match": "1",
    "peakiness": "its own",
    "modulation_db": "0",
    "quiet_excess_db": "0",
    "patchiness": "1",
    "draws_lsd_hf": "0.79 for noise",
    "zimtohrli": "5",
    "visqol": "4.7",
    "real_time_factor": "",
}
# Means of these are weighted by the number of the reference's tonal frames.
TONAL = ("persistence", "match")


def measure(reference: Spectra, estimate: Spectra, cutoff_hz: float) -> dict[str, float | None]:
    """Every measure of an estimate; both recordings have the same shape.

    Raises InputError if they have not.
    """
    found = asdict(distances(reference.samples, estimate.samples, cutoff_hz))
    band = reference.band(cutoff_hz)
    return {
        **found,
        "lsd_in_band": lsd_in_band(reference, estimate, band),
        "bias_db": bias_db(reference, estimate, band),
        "rise_db": rise_db(estimate, band),
        "envelope_correlation": envelope_correlation(reference, estimate, band),
        "persistence": tonal_persistence(reference, estimate, band),
        "match": match(reference, estimate, band),
        "tonal_frames": int(tonal_frames(reference, band).sum()),
        "peakiness": peakiness(reference, estimate, band),
        "modulation_db": modulation_db(reference, estimate, band),
        "patchiness": patchiness(reference, estimate, band),
        "end_hz": reference.end_hz,
    }
