"""Benchmarks: what this server costs, measured in paired rounds beside its alternatives.

The rooms, in reading order: `exchange` (what is asked and answered, byte for byte), `reply`
(reading an answer), `upstream` (the mock that answers), `load`, `streams` and `wrk` (the
generators), `machine` (what /proc says), `processes` and `arms` and `peers` (what is measured, and
how it is started), `cells` (one measurement), `gateway` and `engine` (the protocols of a run),
`statistics` and `report` (what the rounds say).
"""
