"""Boot real API servers on real databases, send them requests, measure them and stop them."""
