"""Say what went wrong to the person who can fix it.

Every message is one sentence or two: what was given, what is allowed, what to do. The command line
prints them and exits with 2, the page shows them and keeps serving.
"""


class LilyError(Exception):
    """Base of every error Lily raises on purpose."""


class InputError(LilyError):
    """The recording or an option the user gave cannot be used."""


class ConfigError(LilyError):
    """A preset or configuration file has an unknown, missing or impossible value."""


class WeightsError(LilyError):
    """A model folder or checkpoint cannot be loaded strictly."""


class HubUnreachable(WeightsError):
    """The Hub does not answer, and what is wanted of it is not in the cache."""


class PublishError(LilyError):
    """A model folder or a Space cannot be uploaded."""


class TrainingError(LilyError):
    """A training run cannot start, continue or save."""


class OutOfMemory(LilyError):
    """The device's memory does not hold the least that a model needs."""


class Stopped(LilyError):
    """A run was stopped before any chunk of it was finished, or its server is being stopped."""
