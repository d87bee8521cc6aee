"""Files that lie: each is a ValueError that names the file, within 2 seconds and 200 MB, and nothing in it is run."""
