"""How good is it: counts, rates, baselines, intervals, for labels and for picks."""
