"""Many fits: a study over a whole dandiset or folder, one process and one folder for each fit."""
