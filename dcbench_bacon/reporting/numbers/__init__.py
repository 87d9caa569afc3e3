"""The numbers of tables: pure functions of records."""
