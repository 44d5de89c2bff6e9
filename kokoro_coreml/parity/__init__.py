"""The judgement: a candidate against the untouched upstream network under the same noise."""
