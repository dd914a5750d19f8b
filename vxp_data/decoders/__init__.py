"""One video library per file, behind one Protocol, run in disposable child processes."""
