"""The figures of a report. Each builder gives a matplotlib `Figure`; none touches pyplot's global state."""
