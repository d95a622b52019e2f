"""The bytes: a bounded cursor, items, PDUs, command sets and data elements (PS3.8 Section 9.3, PS3.7 Annex E)."""
