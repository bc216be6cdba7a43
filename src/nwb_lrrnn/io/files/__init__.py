"""From bytes to a tree of groups and datasets: files on disk, in a network, in an archive. Knows no NWB."""
