"""The Function in Valkey that decides, and the driver that calls it."""
