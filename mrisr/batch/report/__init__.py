"""The pages of a batch: one for each study, one for all. They read only the batch's folder."""
