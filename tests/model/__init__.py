"""The reference: what charging must answer, in plain Python, without journal, batches or Lua.

Written from docs/charging.md and docs/tariffs.md, over the commercial terms themselves. It shares no rule with
services/rating: tests drive both and compare.
"""
