"""The terminal viewer of the audit: reads the record, shows what was decided and why; the only importer of textual."""
