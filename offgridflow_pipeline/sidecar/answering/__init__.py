"""The way out: questions of reads, pages of lists, caching, files and their ranges."""
