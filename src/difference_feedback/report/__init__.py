"""Reports: one self-contained HTML page for a run, or for several runs side by side."""
