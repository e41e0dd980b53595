"""How long ci-defer takes, beside what people do without it. `make benchmark` runs it."""
