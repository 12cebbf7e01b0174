"""Tools that every other folder uses: argument checks, whole files, generators, nested tensors, exact continuation."""
