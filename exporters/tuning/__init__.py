"""Changes to a finished model file: calibration, back-end, windows, quantization, its record."""
