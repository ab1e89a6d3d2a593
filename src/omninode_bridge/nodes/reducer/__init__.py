"""The reducer: pure, and behind an async door."""
