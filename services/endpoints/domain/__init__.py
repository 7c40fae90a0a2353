"""Pure rules of SIMs, endpoints and assignments: values in, values out, the time is an argument."""
