"""The analyses of the papers on the user's own patients: latents, schedules, quality against steps."""
