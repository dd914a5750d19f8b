"""What tests share: runs, drawn media, tiny models, an S3 server, ffmpeg as the truth."""
