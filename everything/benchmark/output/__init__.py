"""What a benchmark shows: tables, files, plots and contact sheets."""
