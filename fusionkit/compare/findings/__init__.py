"""What may be said of an experiment: verdict, cost, robustness, calibration."""
