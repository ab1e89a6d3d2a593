"""Laws about the code itself: arrows between rooms, purity, where SQL lives."""
