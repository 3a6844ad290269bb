"""Resolve a model and print, as JSON lines, what was told and where it is; run by the tests."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from lily.checkpoints.resolve import resolve_config, with_weights
from lily.errors import LilyError


def notify(event: object) -> None:
    print(json.dumps({"event": type(event).__name__, **asdict(event)}))


try:
    preset, weights = (None, sys.argv[1]) if sys.argv[1] != "--preset" else (sys.argv[2], None)
    config = with_weights(resolve_config(preset, weights, notify), notify)
    print(json.dumps({"event": "Here", **config["weights"]}))
except LilyError as error:
    print(json.dumps({"event": "Error", "kind": type(error).__name__, "text": str(error)}))
