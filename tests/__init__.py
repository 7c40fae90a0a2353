"""The tests of Meterline."""
