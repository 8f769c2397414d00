"""Documents, reproduced: each module holds the study of one, written on the public names of the package alone."""
