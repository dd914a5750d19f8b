"""Looking at finished runs: plan, compare, report. Nothing is decided here."""
