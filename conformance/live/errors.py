"""What can go wrong while a capture is recorded, each with a message for the person who asked for it."""


class RecordError(Exception):
    """Nothing was recorded; the message says why and what would help."""


class LabUnavailable(RecordError):
    """The lab cannot be built here: no root, or a tool is missing."""


class ScenarioFailed(RecordError):
    """Something else happened than the scenario describes: the run is not what its sentence says."""


class CaptureLost(RecordError):
    """The tap did not see everything: the run has to be repeated."""


class UnknownScenario(RecordError):
    """No scenario has that name."""
