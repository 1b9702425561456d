"""A model as judge: what it is asked and how its words are read, and the licence that it has to earn first.

Pure: no network and no model library. The asking is engine/judge.py's.
"""
