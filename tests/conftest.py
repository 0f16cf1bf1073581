"""How property tests run: without a deadline, since a loaded machine is no defect, and in CI always alike."""

import os

from hypothesis import settings

settings.register_profile("wellbench", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("wellbench")
