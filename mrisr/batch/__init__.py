"""Many studies in one run: the manifest, the stages of a study, and the pages that report on them."""
