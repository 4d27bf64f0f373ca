"""Everything that measures: speed, accuracy, and the pages written from the results."""
