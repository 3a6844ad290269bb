"""Laws of requests and settings: empty means the default, nonsense means one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from lily.errors import ConfigError, InputError
from lily.ui.request import request_of
from lily.ui.settings import Settings


def ask(**changes):
    values = {
        "recording": "/cache/a.wav",
        "preset": "small",
        "encoder": "on",
        "steps": 20,
        "seed": "",
        "sampler": "",
        "guidance": 1.5,
        "cutoff": "",
    }
    return request_of(**(values | changes))


def test_empty_fields_are_left_to_the_preset():
    request = ask(steps=None, guidance=None)
    assert request.recording == Path("/cache/a.wav")
    chosen = (request.steps, request.seed, request.sampler, request.guidance, request.cutoff_hz)
    assert chosen == (None,) * 5


@pytest.mark.parametrize("seed", ["12", " 12 ", 12, 12.0])
def test_a_seed_is_a_whole_number_however_it_is_written(seed):
    assert ask(seed=seed).seed == 12


def test_seed_zero_is_a_seed():
    assert ask(seed="0").seed == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", "abc"), ("seed", "1.5"), ("guidance", "inf")],
)
def test_nonsense_is_named_in_one_sentence(field, value):
    with pytest.raises(InputError, match=f"(?i){field} is .*{value}.*leave it empty"):
        ask(**{field: value})


def test_a_cutoff_is_read_as_the_command_line_reads_it():
    assert ask(cutoff=" 3500 ").cutoff_hz == 3_500.0
    assert ask(cutoff="0:4000,62.5:20000").cutoff_hz == ((0.0, 4000.0), (62.5, 20000.0))
    with pytest.raises(InputError, match="not a cutoff"):
        ask(cutoff="4k")


def test_no_recording_is_an_input_error():
    with pytest.raises(InputError, match="no recording"):
        ask(recording=None)


def test_both_asks_for_a_comparison():
    assert ask(encoder="both").compares
    assert not ask(encoder="on").compares
    assert [ask(encoder=choice).options().encoder for choice in ("off", "on")] == [False, True]


def test_an_unknown_encoder_choice_names_the_allowed_ones():
    with pytest.raises(InputError, match="on, off, both"):
        ask(encoder="maybe").options()


def test_settings_come_from_the_environment():
    settings = Settings.from_environment(
        {
            "LILY_MAX_SECONDS": "90",
            "LILY_MAX_MB": "5",
            "LILY_MAX_RUN_SECONDS": "60",
            "LILY_KEEP_SECONDS": "600",
            "LILY_CACHE_MB": "900",
            "LILY_QUEUE_PLACES": "3",
            "LILY_SHARE": "1",
            "PORT": "8123",
            "GRADIO_SERVER_NAME": "0.0.0.0",
        }
    )
    assert (settings.max_seconds, settings.max_mb) == (90.0, 5)
    assert (settings.max_run_seconds, settings.keep_seconds) == (60.0, 600.0)
    assert (settings.cache_mb, settings.queue_places) == (900, 3)
    assert (settings.port, settings.server_name) == (8123, "0.0.0.0")
    assert settings.share and not Settings().share
    assert Settings.from_environment({}) == Settings()


@pytest.mark.parametrize(
    "environment",
    [
        {"LILY_MAX_SECONDS": "long"},
        {"LILY_MAX_MB": "-1"},
        {"LILY_SHARE": "yes"},
        {"PORT": "http"},
        {"PORT": "70000"},
    ],
)
def test_a_wrong_setting_is_named(environment):
    with pytest.raises(ConfigError, match=next(iter(environment.values()))):
        Settings.from_environment(environment)


def test_what_is_known_of_the_original_reaches_the_engine_and_the_command():
    asked = ask(context=["/cache/b/one.wav", "/cache/c/-two.wav"], wall="16000", brightness=-3)
    options = asked.options()
    assert options.context_files == (Path("/cache/b/one.wav"), Path("/cache/c/-two.wav"))
    assert (options.wall_hz, options.brightness_db) == (16_000.0, -3.0)
    unset = ask(context=None, wall=" ", brightness=0).options()
    assert (unset.wall_hz, unset.brightness_db, unset.context_files) == (None, None, ())
    with pytest.raises(InputError, match="(?i)wall is .*high"):
        ask(wall="high")
