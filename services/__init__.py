"""The services of Meterline and what they share."""
