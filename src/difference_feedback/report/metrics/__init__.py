"""What every logged metric is, by question. The report and docs/reference/metrics.md are made of it."""
