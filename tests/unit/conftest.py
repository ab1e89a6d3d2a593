"""How thoroughly the property tests look."""

from hypothesis import settings

# No deadline: on a busy machine the first example may take long, and that is nobody's fault.
settings.register_profile("unit", max_examples=60, deadline=None)
settings.load_profile("unit")
