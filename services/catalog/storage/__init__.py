"""The SQL store of the catalogue. Rows are not domain objects."""
