"""What callers can do: one function a verb."""
