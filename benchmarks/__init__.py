"""Speed against the usual rivals, as ratios taken in one run."""
