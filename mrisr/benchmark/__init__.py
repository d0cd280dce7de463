"""The benchmark: what a run costs, stage by stage, beside what the machine can do."""
