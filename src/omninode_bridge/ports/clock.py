"""What time it is, for who has to be told."""

from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], datetime]
