"""What every other room uses: argument checks, whole files, generators, nested tensors, exact continuation."""
