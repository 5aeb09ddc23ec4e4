"""The comparison of runs: tables, charts, verdicts and the page, read from run folders."""
