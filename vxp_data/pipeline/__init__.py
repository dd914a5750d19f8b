"""Ray Data jobs: thin, no arithmetic."""
