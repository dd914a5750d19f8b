"""Reading one media file: fetching it, its timeline, the frames of its clips."""
