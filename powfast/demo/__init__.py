"""A served model that is expensive to steal and cheap to use, shown on real digits."""
