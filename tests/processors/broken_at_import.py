raise_it = 1 / 0
