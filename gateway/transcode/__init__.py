"""The pure core: annotation -> route, HTTP request -> message, message -> JSON. No input or output, no framework."""
