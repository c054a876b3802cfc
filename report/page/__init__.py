"""The report page: what each section says, as data for its template."""
