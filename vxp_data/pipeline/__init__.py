"""The commands' work, a folder a subject; on top what joins these: prune, redecide, retry."""
