"""Golden samples: the check of an engine, and the diagnosis of a failed one."""
